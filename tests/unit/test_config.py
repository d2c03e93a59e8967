"""Parameters: what is wrong is named."""

from pathlib import Path

import pytest

from pipelines.config import Config, load_config
from pipelines.errors import ConfigError


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "params.yaml"
    path.write_text(text, "utf-8")
    return load_config(path, list(overrides))


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Config()


@pytest.mark.parametrize(
    ("text", "overrides", "named"),
    [
        ("chunk: {max_token: 5}", (), "chunk.max_token"),
        ("chunks: {}", (), "chunks"),
        ("chunk: {max_tokens: many}", (), "chunk.max_tokens"),
        ("chunk: {max_tokens: 3}", (), "chunk.max_tokens"),
        ("chunk: 5", (), "chunk"),
        ("", ("chunk.overlap=3",), "chunk.overlap"),
        ("", ("chunk.max_tokens=true",), "chunk.max_tokens"),
        ("", ("max_tokens=3",), "max_tokens=3"),
        ("index: {name: '../etc'}", (), "index.name"),
        ("collect: {sources: docs}", (), "collect.sources"),
        ("- a", (), "params.yaml"),
        ("a: [", (), "params.yaml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, overrides: tuple[str, ...], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    assert named in str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "overrides", "begins"),
    [
        ("", ["chunk.overlap=3"], "--set chunk.overlap: unknown key"),
        ("chunk: {max_tokens: 50}", ["chunk.max_tokens=many"], "--set chunk.max_tokens: "),
        ("", ["chunks.max_tokens=50"], "--set chunks.max_tokens: unknown key chunks"),
        ("models: [a]", ["models.name=50"], "--set models.name: models is no section"),
        ("chunk: {overlap: 3}", ["chunk.max_tokens=50"], "PATH: unknown key chunk.overlap"),
        ("chunks: {overlap: 3}", ["chunks.max_tokens=50"], "PATH: unknown key chunks"),
    ],
)
def test_the_file_or_the_option_is_blamed(tmp_path: Path, text: str, overrides: list[str], begins: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    assert str(caught.value).startswith(begins.replace("PATH", str(tmp_path / "params.yaml")))


def test_the_option_index_is_blamed(tmp_path: Path) -> None:
    load(tmp_path, "")
    assert load_config(tmp_path / "params.yaml", index="guide").index.name == "guide"
    with pytest.raises(ConfigError, match=r"^--index: "):
        load_config(tmp_path / "params.yaml", index="../etc")


def test_overrides_win_and_leave_the_rest(tmp_path: Path) -> None:
    config = load(tmp_path, "chunk: {max_tokens: 100, min_tokens: 7}", "chunk.max_tokens=50", "embed.model=hash:8")
    assert (config.chunk.max_tokens, config.chunk.min_tokens, config.embed.model) == (50, 7, "hash:8")


def test_a_missing_file_says_how_to_make_a_workspace(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "params.yaml")
    assert "snapdex init" in caught.value.hint
