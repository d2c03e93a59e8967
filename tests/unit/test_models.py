"""Which model a name means, what is refused, and how tokens are counted."""

import json
import shutil
import struct
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import EmbedConfig
from pipelines.errors import ConfigError, InputError
from pipelines.files import Workspace
from pipelines.models import EmbeddingModel, load_tokenizer, resolve_model, tokens
from pipelines.models.folder import hash_files

MINILM = resolve_model(EmbedConfig(), Workspace(Path("/nonexistent")))
COUNTER = load_tokenizer(MINILM)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The packaged model with small weights: nothing here reads them."""
    assert MINILM.directory is not None
    target = tmp_path / "model"
    shutil.copytree(MINILM.directory, target, ignore=shutil.ignore_patterns("model.safetensors"))
    (target / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return target


def resolve(name: str, workspace: Workspace, **settings: str) -> EmbeddingModel:
    return resolve_model(EmbedConfig.model_validate({"model": name, **settings}), workspace)


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# -- identity ----------------------------------------------------------------------------------------------------------


def test_minilm_is_described_without_opening_its_weights() -> None:
    assert (MINILM.dimension, MINILM.max_tokens, MINILM.normalised, MINILM.special_tokens) == (384, 256, True, 2)


def test_recorded_hashes_give_the_revision_that_hashing_gives(workspace: Workspace) -> None:
    copied = resolve(f"path:{MINILM.directory}", workspace)
    assert (copied.revision, copied.space) == (MINILM.revision, MINILM.space)


def test_renaming_a_model_keeps_its_space_and_editing_it_does_not(folder: Path, workspace: Workspace) -> None:
    before = resolve("path:model", workspace)
    folder.rename(folder.with_name("renamed"))
    (folder.with_name("renamed") / "README.md").write_text("another model card")
    after = resolve("path:renamed", workspace)
    assert after.name != before.name
    assert after.space == before.space
    edit(folder.with_name("renamed") / "config.json", layer_norm_eps=1e-6)
    assert resolve("path:renamed", workspace).space != before.space


def test_prefixes_belong_to_the_space_and_come_from_the_model(folder: Path, workspace: Workspace) -> None:
    before = resolve("path:model", workspace)
    own = {"query": "query: ", "document": "passage: "}
    edit(folder / "config_sentence_transformers.json", prompts=own)
    model = resolve("path:model", workspace)
    assert (model.query_prefix, model.passage_prefix) == ("query: ", "passage: ")
    assert model.tokenizer_fingerprint != before.tokenizer_fingerprint
    assert resolve("path:model", workspace, query_prefix="ask: ").query_prefix == "ask: "
    assert resolve("hash:8", workspace).space != resolve("hash:8", workspace, query_prefix="ask: ").space


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"one")
    cache = tmp_path / "cache.json"
    first = hash_files(tmp_path, ["a"], cache)
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert hash_files(tmp_path, ["a"], cache) == first
    (tmp_path / "a").write_bytes(b"two")
    monkeypatch.undo()
    assert hash_files(tmp_path, ["a"], cache) != first
    cache.write_text("{")
    assert hash_files(tmp_path, ["a"], cache) != first


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "bert", "hash:", "hash:0", "hash:x", "hash:-3", "path:", "openai:", "hf:", "minilm:2"]
)
def test_a_name_of_no_form_is_refused_with_the_forms(name: str, workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(name, workspace)
    assert "hash:DIM" in caught.value.hint


def test_openai_itself_needs_a_key(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="key"):
        resolve("openai:text-embedding-3-small", workspace)


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A local hub cache that holds one commit, with the network forbidden."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--some--model"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    shutil.copytree(folder, cached / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return commit


def test_a_hub_model_is_found_in_the_local_cache(hub: str, workspace: Workspace) -> None:
    assert resolve(f"hf:some/model@{hub}", workspace).space == resolve("path:model", workspace).space


@pytest.mark.parametrize("name", ["hf:some/model", "hf:some/model@main"])
def test_a_hub_name_that_can_move_is_refused_with_its_commit(hub: str, name: str, workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(name, workspace)
    assert f"hf:some/model@{hub}" in caught.value.hint


def test_a_hub_model_that_is_not_cached_says_so(hub: str, workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="not in the local cache"):
        resolve(f"hf:other/model@{hub}", workspace)


def test_a_registered_model_is_downloaded_once_for_each_version(folder: Path, workspace: Workspace) -> None:
    model = resolve("path:model", workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mlflow", _registry(folder))
        assert resolve("mlflow:encoder@champion", workspace).space == model.space
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mlflow", None)
        assert resolve("mlflow:encoder@7", workspace).space == model.space
        with pytest.raises(ConfigError) as caught:
            resolve("mlflow:encoder@champion", workspace)
    assert "snapdex[train]" in caught.value.hint
    with pytest.raises(ConfigError, match="names no version"):
        resolve("mlflow:encoder", workspace)


def _registry(folder: Path) -> types.SimpleNamespace:
    """What is used of MLflow, with one model whose champion is version 7."""

    def download_artifacts(artifact_uri: str, dst_path: str) -> None:
        assert artifact_uri == "models:/encoder/7"
        shutil.copytree(folder, Path(dst_path) / "model")

    def get_model_version_by_alias(name: str, alias: str) -> types.SimpleNamespace:
        assert (name, alias) == ("encoder", "champion")
        return types.SimpleNamespace(version=7)

    return types.SimpleNamespace(
        artifacts=types.SimpleNamespace(download_artifacts=download_artifacts),
        exceptions=types.SimpleNamespace(MlflowException=LookupError),
        tracking=types.SimpleNamespace(is_tracking_uri_set=lambda: True),
        MlflowClient=lambda: types.SimpleNamespace(get_model_version_by_alias=get_model_version_by_alias),
    )


# -- refusals ----------------------------------------------------------------------------------------------------------


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _pickled_module(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text('{"in_features": 384, "out_features": 384}')
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def _foreign_class(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": "my_module.Transformer"}]))


def _unknown_class(folder: Path) -> None:
    (folder / "modules.json").write_text(
        json.dumps([{"path": "", "type": "sentence_transformers.models.WordEmbeddings"}])
    )


def _escaping_module(folder: Path) -> None:
    (folder / "modules.json").write_text(
        json.dumps([{"path": "../elsewhere", "type": "sentence_transformers.models.Transformer"}])
    )


def _activation(folder: Path) -> None:
    _pickled_module(folder)
    (folder / "2_Dense" / "pytorch_model.bin").unlink()
    shutil.copy(folder / "model.safetensors", folder / "2_Dense")
    edit(folder / "2_Dense" / "config.json", activation_function="os.system")


def _huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{" + bytes(1000))


def _pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90868376\n"
    )


REFUSED: list[tuple[Callable[[Path], object], str]] = [
    (_pickled, "pickle"),
    (_pickled_module, "pickle"),
    (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
    (_foreign_class, "my_module"),
    (_unknown_class, "WordEmbeddings"),
    (_escaping_module, "leads out"),
    (_activation, "os.system"),
    (lambda folder: edit(folder / "config.json", auto_map={"AutoModel": "modeling.Evil"}), "auto_map"),
    (lambda folder: edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}), "auto_map"),
    (lambda folder: edit(folder / "sentence_bert_config.json", model_args={"trust_remote_code": True}), "trust_remote"),
    (lambda folder: edit(folder / "config_sentence_transformers.json", model_type="SparseEncoder"), "SparseEncoder"),
    (lambda folder: (folder / "adapter_config.json").write_text("{}"), "adapter"),
    (lambda folder: (folder / "modules.json").unlink(), "modules.json"),
    (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
    (lambda folder: (folder / "config.json").write_text("[" * 100_000), "not valid JSON"),
    (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
    (_huge_header, "header"),
    (_pointer, "safetensors"),
]


@pytest.mark.parametrize(("damage", "said"), REFUSED, ids=[str(n) + said for n, (_, said) in enumerate(REFUSED)])
def test_an_unsafe_or_incomplete_model_is_refused(
    damage: Callable[[Path], object], said: str, folder: Path, workspace: Workspace
) -> None:
    resolve("path:model", workspace)
    damage(folder)
    with pytest.raises(InputError, match=said):
        resolve("path:model", workspace)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_nothing_is_truncated_or_padded_although_the_file_says_so() -> None:
    assert COUNTER.count(["one", "word " * 1000]) == [3, 1002]
    assert len(COUNTER.spans("word " * 1000)) == 1000


@settings(max_examples=200)
@given(st.text(max_size=300))
def test_spans_are_ordered_starts_and_agree_with_the_count(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    spans = COUNTER.spans(text)
    assert COUNTER.count([text]) == [len(spans) + MINILM.special_tokens]
    assert all(0 <= start < len(text) for start in spans)
    assert (spans[:-1] <= spans[1:]).all()


@given(st.lists(st.sampled_from(["the", "quick", "naïve", "unbelievably", "你好", "😀", "don't", "\n"]), max_size=60))
def test_a_long_text_in_pieces_has_the_same_spans(words: list[str]) -> None:
    text = " ".join(words)
    whole = COUNTER.spans(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "PIECE", 16)
        assert COUNTER.spans(text).tolist() == whole.tolist()


@pytest.mark.parametrize("name", ["minilm", "hash:16", "openai:some"])
def test_the_passage_prefix_is_counted(name: str, workspace: Workspace) -> None:
    plain = resolve_model(EmbedConfig(model=name, dimension=16), workspace)
    prefixed = replace(plain, passage_prefix="passage: ")
    text = "Publishing moves one pointer."
    counter = load_tokenizer(prefixed)
    assert counter.count([text])[0] == len(counter.spans(text)) + prefixed.special_tokens
    assert prefixed.special_tokens > plain.special_tokens


def test_models_are_resolved_without_heavy_imports(workspace: Workspace) -> None:
    code = (
        "import sys; from pathlib import Path; from pipelines.config import EmbedConfig;"
        "from pipelines.files import Workspace; from pipelines.models import resolve_model;"
        f"resolve_model(EmbedConfig(), Workspace(Path({str(workspace.root)!r})));"
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'httpx', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
