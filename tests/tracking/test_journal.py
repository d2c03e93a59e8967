"""The journal of a training: what is told once is there once, whatever kills the one who tells."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import ConflictError, InputError, IntegrityError
from pipelines.files import Workspace
from pipelines.tracking import Journal, journal, open_journal

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def opened(workspace: Workspace, ticks: Iterator[float] | None = None) -> Journal:
    clock = (lambda: next(ticks)) if ticks else (lambda: 1.0)
    return open_journal(workspace, "run-1", experiment="fine-tuning", name="first", clock=clock)


def records(workspace: Workspace) -> list[dict[str, Any]]:
    return journal.parse(journal.journals(workspace) / "run-1" / "log.jsonl")[0]


def tell(told: Journal, steps: int) -> None:
    """What a training tells from its beginning up to a step."""
    told.params({"lr": 2e-5, "batch_size": 16})
    told.tags({"git_commit": "abc", "none": None})
    told.dataset("pairs", "d" * 64, 100, "training", {"dvc_md5": "e"})
    for step in range(steps):
        told.metrics({"loss": 1 / (step + 1), "ndcg@10": float("nan")}, step)
    told.text("notes.txt", "all is well")


def test_a_resumed_training_says_nothing_twice(workspace: Workspace) -> None:
    ticks = iter(range(1, 1000))
    with opened(workspace, ticks) as told:
        tell(told, 3)
    before = records(workspace)
    with opened(workspace, ticks) as told:
        tell(told, 5)
    after = records(workspace)
    assert after[: len(before)] == before
    assert [record["step"] for record in after[len(before) :]] == [3, 4]
    assert [record["at"] for record in after] == [1000 * n for n in range(1, len(after) + 1)]
    assert {"loss", "ndcg_at_10"} == set(after[-1]["values"])


@settings(deadline=None, max_examples=40)  # it waits for the disk
@given(st.integers(min_value=1, max_value=1000), st.integers(0, 4))
def test_a_torn_line_is_cut_off_and_told_again(tmp_path_factory: pytest.TempPathFactory, torn: int, steps: int) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("torn"))
    with opened(workspace) as told:
        tell(told, steps)
    log = told.directory / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[: max(0, len(whole) - torn)])
    with opened(workspace) as told:
        tell(told, steps)
    assert log.read_bytes() == whole


def test_a_log_that_is_damaged_in_its_middle_is_not_cut(workspace: Workspace) -> None:
    with opened(workspace) as told:
        tell(told, 2)
    log = told.directory / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(b'{"at": 1000, "kind": "tags"', b"{", 1))
    with pytest.raises(IntegrityError, match="line 3"):
        opened(workspace)


def test_the_last_value_of_a_tag_and_of_a_file_counts(workspace: Workspace) -> None:
    with opened(workspace) as told:
        for value in ("a", "b", "b", "a"):
            told.tags({"phase": value})
            told.text("phase.txt", value)
    assert [record["values"]["phase"] for record in records(workspace) if record["kind"] == "tags"] == ["a", "b", "a"]
    assert len([record for record in records(workspace) if record["kind"] == "file"]) == 3


def test_a_file_is_kept_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("1")
    with opened(workspace) as told:
        told.file(tmp_path / "curve.csv", "plots")
        (tmp_path / "curve.csv").write_text("2")
        kept = journal.stored(told.directory, records(workspace)[-1])
    assert (kept.name, kept.read_text()) == ("curve.csv", "1")
    assert records(workspace)[-1]["name"] == "plots/curve.csv"


def test_a_parameter_with_another_value_is_another_run(workspace: Workspace) -> None:
    with opened(workspace) as told:
        told.params({"lr": 1})
        with pytest.raises(InputError, match="lr of the run run-1 was 1 and is 2"):
            told.params({"seed": 0, "lr": 2})
    assert len(records(workspace)) == 2


@pytest.mark.parametrize("name", ["", "a@b", "a//b", "/a", "a/", "../a", "a/../b", "é" * 251, "a\nb"])
def test_a_name_that_mlflow_refuses_is_refused_before_it_is_written(workspace: Workspace, name: str) -> None:
    with opened(workspace) as told:
        with pytest.raises(InputError):
            told.params({name: 1})
        with pytest.raises(InputError):
            told.register("a/b", "card")
    assert len(records(workspace)) == 1


def test_a_run_has_one_writer_and_ends_and_goes_on(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "WAIT_SECONDS", 0)
    with opened(workspace) as told:
        with pytest.raises(ConflictError):
            opened(workspace)
        told.finish("FAILED")
        told.finish("FAILED")
    with opened(workspace) as told:
        told.finish("FAILED")
        told.metrics({"loss": 1}, 1)
        told.finish("FINISHED")
    assert [record["kind"] for record in records(workspace)] == ["run", "finish", "reopen", "metrics", "finish"]


def test_a_model_is_kept_byte_for_byte_and_without_a_pickle(workspace: Workspace, model: tuple[Path, Any]) -> None:
    directory, loaded = model
    (directory / "training_args.bin").write_bytes(b"\x80\x04.")
    (directory / "config.json").write_text(json.dumps(json.loads((directory / "config.json").read_text())))
    with opened(workspace) as told:
        told.model(directory, loaded)
        told.model(directory, "not opened again")
        told.register("encoder", "# card")
        with pytest.raises(InputError, match="no version of other"):
            told.promote("other", None)
    kept = told.directory / "model"
    assert not [path for path in kept.rglob("*") if path.suffix in {".bin", ".pkl", ".pickle", ".pt", ".pth"}]
    inner = next(kept.rglob("modules.json")).parent
    for path in inner.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (directory / path.relative_to(inner)).read_bytes(), path
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in inner.iterdir()}
    requirements = (kept / "requirements.txt").read_text().split()
    assert requirements and all("==" in line and "+" not in line for line in requirements)
