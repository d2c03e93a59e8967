"""The embed stage: what is computed, what is kept, and what a second run does."""

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines import embed
from pipelines.config import Config, EmbedConfig
from pipelines.embed import work
from pipelines.errors import InputError, IntegrityError
from pipelines.files import Manifest, Store, Workspace
from pipelines.manifests import ChunksRow, read_embeddings
from pipelines.model import Chunk, Revision, revision_key
from pipelines.models import resolve_model

INDEX = Config().index.name
CONFIG = Config(embed=EmbedConfig(model="hash:16"))


class Recorder:
    """Vectors of one dimension per place, and a list of what was asked; interrupts or lies when told to."""

    def __init__(self, *, stop_after: int | None = None, answer: NDArray[np.float32] | None = None) -> None:
        self.texts: list[str] = []
        self.stop_after = stop_after
        self.answer = answer

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.stop_after is not None and len(self.texts) >= self.stop_after:
            raise KeyboardInterrupt
        self.texts.extend(texts)
        if self.answer is not None:
            return self.answer
        return np.array([[len(text), *[1.0] * 15] for text in texts], dtype=np.float32)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise AssertionError(texts)


def revise(workspace: Workspace, documents: dict[str, list[str]]) -> None:
    """What the chunk stage would have written for documents with these chunks."""
    rows = []
    with workspace.store("chunks").writer() as writer:
        for uri, texts in documents.items():
            revision = Revision(tuple(Chunk(text, 0, len(text), tokens=3) for text in texts))
            key = revision_key(revision.chunks_sha256, "text/plain", "recipe")
            writer.add(key, revision.to_json().encode())
            rows.append(ChunksRow(uri, "0" * 64, "text/plain", key, len(texts), revision.chunks_sha256).to_row())
    Manifest("chunks", {"recipe": "recipe"}, rows).write(workspace.manifest(INDEX, "chunks"))


def vectors(workspace: Workspace, config: Config = CONFIG) -> Store:
    return workspace.store(embed.vectors_store(resolve_model(config.embed, workspace).space))


def keys(texts: Iterable[str]) -> set[bytes]:
    return {Chunk(text, 0, 0).key for text in texts}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_every_chunk_has_its_vector_after_a_run(workspace: Workspace) -> None:
    revise(workspace, {"a": ["one", "two"], "b": ["two", "three"], "copy of b": ["two", "three"], "empty": []})
    assert embed.missing_chunks(CONFIG, workspace) == 3
    report = embed.run(CONFIG, workspace)
    assert (report.embedded, report.reused, report.tokens) == (3, 1, 9)
    model = resolve_model(CONFIG.embed, workspace)
    stored = dict(vectors(workspace).read(keys(["one", "two", "three"])))
    wanted = embed.load_encoder(model, CONFIG.embed).encode(["two"]).astype("<f2").tobytes()
    assert stored[Chunk("two", 0, 0).key] == wanted
    assert len(wanted) == 2 * model.dimension
    space, rows = read_embeddings(workspace, INDEX)
    assert (space, len(rows)) == (model.space, 3)
    assert rows == sorted(rows, key=lambda row: row.revision_key)


def test_the_text_that_is_embedded_has_its_context(workspace: Workspace) -> None:
    revision = Revision((Chunk("body", 0, 4, context="Title > Section", tokens=5),))
    with workspace.store("chunks").writer() as writer:
        writer.add(bytes(32), revision.to_json().encode())
    row = ChunksRow("a", "0" * 64, "text/plain", bytes(32), 1, revision.chunks_sha256)
    Manifest("chunks", {"recipe": "r"}, [row.to_row()]).write(workspace.manifest(INDEX, "chunks"))
    recorder = Recorder()
    embed.run(CONFIG, workspace, encoder=recorder)
    assert recorder.texts == ["Title > Section\n\nbody"]


def test_a_change_costs_what_changed(workspace: Workspace) -> None:
    documents = {f"d{n}": [f"chunk {n}.{place}" for place in range(5)] for n in range(20)}
    revise(workspace, documents)
    embed.run(CONFIG, workspace)
    before = workspace.manifest(INDEX, "embeddings").read_bytes()
    documents["d3"] = ["new", *documents["d3"]]
    documents["renamed"] = documents.pop("d4")
    revise(workspace, documents)
    recorder = Recorder()
    report = embed.run(CONFIG, workspace, encoder=recorder)
    assert (recorder.texts, report.embedded, report.reused) == (["new"], 1, 100)
    documents["d3"] = documents["d3"][1:]
    revise(workspace, documents)
    assert embed.run(CONFIG, workspace, encoder=Recorder()).embedded == 0
    assert workspace.manifest(INDEX, "embeddings").read_bytes() == before


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("12345"), max_size=5), max_size=3),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 4),
)
def test_any_history_embeds_each_text_once(
    tmp_path_factory: pytest.TempPathFactory, history: list[dict[str, list[str]]], group: int
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "GROUP_CHUNKS", group)
        patch.setattr(embed, "STEP_CHUNKS", 2)
        patch.setattr(embed, "FLUSH_CHUNKS", 3)
        for documents in history:
            revise(workspace, documents)
            wanted = embed.missing_chunks(CONFIG, workspace)
            report = embed.run(CONFIG, workspace, encoder=recorder)
            assert report.embedded == wanted
            assert report.embedded + report.reused == sum(map(len, {tuple(each) for each in documents.values()}))
    seen = {text for documents in history for texts in documents.values() for text in texts}
    assert sorted(recorder.texts) == sorted(seen)
    assert set(vectors(workspace).keys()) == keys(seen)


def test_an_interrupted_run_keeps_what_was_finished(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "STEP_CHUNKS", 10)
    texts = [f"chunk {n}" for n in range(100)]
    revise(workspace, {"a": texts})
    first = Recorder(stop_after=30)
    with pytest.raises(KeyboardInterrupt):
        embed.run(CONFIG, workspace, encoder=first)
    assert set(vectors(workspace).keys()) == keys(first.texts)
    assert not workspace.manifest(INDEX, "embeddings").exists()
    second = Recorder()
    assert embed.run(CONFIG, workspace, encoder=second).embedded == 70
    assert sorted(first.texts + second.texts) == sorted(texts)


def test_finished_work_is_on_disk_long_before_the_end(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "STEP_CHUNKS", 10)
    monkeypatch.setattr(embed, "FLUSH_SECONDS", -1.0)
    revise(workspace, {"a": [f"chunk {n}" for n in range(30)]})
    on_disk = []

    class Watcher(Recorder):
        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            on_disk.append(len(set(vectors(workspace).keys())))
            return super().encode(texts)

    embed.run(CONFIG, workspace, encoder=Watcher())
    assert on_disk == [0, 10, 20]


@pytest.mark.parametrize(
    "answer",
    [
        np.ones((1, 16)),
        np.ones((3, 16)),
        np.ones((2, 15)),
        np.full((2, 16), np.nan),
        np.full((2, 16), np.inf),
        np.zeros((2, 16)),
        np.full((2, 16), 1e9),
        np.full((2, 16), 1e-9),
    ],
    ids=["too few", "too many", "dimension", "nan", "inf", "zero", "overflows float16", "vanishes in float16"],
)
def test_wrong_vectors_are_refused_before_anything_is_stored(workspace: Workspace, answer: np.ndarray) -> None:
    revise(workspace, {"a": ["one", "two"]})
    with pytest.raises(IntegrityError):
        embed.run(CONFIG, workspace, encoder=Recorder(answer=answer.astype(np.float32)))
    assert vectors(workspace).segments() == []
    assert not workspace.manifest(INDEX, "embeddings").exists()
    assert embed.run(CONFIG, workspace).embedded == 2


def test_another_space_is_embedded_anew_and_the_old_one_kept(workspace: Workspace) -> None:
    revise(workspace, {"a": ["one", "two"]})
    other = Config(embed=EmbedConfig(model="hash:8"))
    assert embed.run(CONFIG, workspace).embedded == 2
    assert embed.run(other, workspace).embedded == 2
    assert embed.run(CONFIG, workspace).embedded == 0


# -- a store that was not fetched --------------------------------------------------------------------------------------


def test_vectors_that_were_not_pulled_are_not_paid_for_again(workspace: Workspace) -> None:
    revise(workspace, {"a": ["one", "two"], "b": ["three"]})
    embed.run(CONFIG, workspace)
    for segment in vectors(workspace).segments():
        segment.unlink()
    assert embed.run(CONFIG, workspace, encoder=Recorder()).embedded == 0  # nothing changed: nothing is read
    revise(workspace, {"a": ["one", "two", "more"], "b": ["three"]})
    for act in (embed.run, embed.missing_chunks):
        with pytest.raises(InputError, match="not in") as caught:
            act(CONFIG, workspace)
        assert "dvc pull" in caught.value.hint
    assert embed.missing_chunks(CONFIG, workspace, recompute=True) == 4
    assert embed.run(CONFIG, workspace, recompute=True).embedded == 4


def test_a_lost_segment_is_noticed_too(workspace: Workspace) -> None:
    documents = {f"d{n}": [f"chunk {n}"] for n in range(40)}
    revise(workspace, documents)
    embed.run(CONFIG, workspace)
    lost = vectors(workspace).segments()
    revise(workspace, documents | {"more": ["more"]})
    embed.run(CONFIG, workspace)
    for segment in lost:
        segment.unlink()
    revise(workspace, documents | {"more": ["more"], "third": ["third"]})
    with pytest.raises(InputError, match="not in"):
        embed.run(CONFIG, workspace)


def test_chunks_that_were_not_pulled(workspace: Workspace) -> None:
    revise(workspace, {"a": ["one"]})
    for segment in workspace.store("chunks").segments():
        segment.unlink()
    with pytest.raises(InputError, match="store/chunks"):
        embed.run(CONFIG, workspace)


def test_a_dry_run_writes_nothing_into_the_workspace(workspace: Workspace, tmp_path: Path) -> None:
    revise(workspace, {"a": ["one"]})
    embed.run(CONFIG, workspace)
    before = sorted(path for path in (tmp_path / "data").rglob("*"))
    dry = workspace.dry(tmp_path / "scratch", INDEX)
    revise(dry, {"a": ["one", "two"]})
    assert embed.run(CONFIG, dry).embedded == 1
    assert sorted(path for path in (tmp_path / "data").rglob("*")) == before


def test_progress_ends_where_it_said(workspace: Workspace) -> None:
    class Counter:
        total = done = 0

        def start(self, stage: str, total: int) -> None:
            self.total += total

        def advance(self, count: int = 1) -> None:
            self.done += count

    revise(workspace, {"a": ["one", "two", "one"], "b": ["two"]})
    counter = Counter()
    embed.run(CONFIG, workspace, progress=counter)
    assert (counter.total, counter.done) == (4, 4)


def test_a_query_is_a_vector_of_the_same_space(workspace: Workspace) -> None:
    revise(workspace, {"a": ["publish a version", "feed the cat"]})
    embed.run(CONFIG, workspace)
    query = embed.encode_query(CONFIG, workspace, "publish a version")
    stored = dict(vectors(workspace).read(keys(["publish a version"])))
    assert np.allclose(np.frombuffer(next(iter(stored.values())), "<f2"), query, atol=1e-3)


# -- processes ---------------------------------------------------------------------------------------------------------


def test_a_run_with_nothing_to_encode_loads_no_torch(workspace: Workspace) -> None:
    config = Config()
    revise(workspace, {"a": ["one", "two"]})
    embed.run(config, workspace, encoder=_Minilm())
    code = (
        "import sys; from pathlib import Path; from pipelines import embed; from pipelines.config import Config;"
        f"from pipelines.files import Workspace; workspace = Workspace(Path({str(workspace.root)!r}));"
        "assert embed.run(Config(), workspace).embedded == embed.missing_chunks(Config(), workspace) == 0;"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'httpx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class _Minilm(Recorder):
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 384), np.float32)


def _command(workspace: Workspace, *options: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.embed", "--workspace", str(workspace.root), *options]


def test_the_command_reports_in_json_and_errors_in_two_lines(workspace: Workspace) -> None:
    workspace.params.write_text("embed: {model: 'hash:16'}\n")
    failed = subprocess.run(_command(workspace), capture_output=True, text=True)
    assert failed.returncode == 3
    assert [line.split(":")[0] for line in failed.stderr.splitlines()] == ["error", "hint"]
    revise(workspace, {"a": ["one", "two"]})
    done = subprocess.run(
        _command(workspace, "--set", "embed.model=hash:8"), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["embedded"] == 2


def test_a_terminated_command_keeps_what_was_finished(workspace: Workspace) -> None:
    texts = [f"chunk {n}" for n in range(20 * embed.STEP_CHUNKS)]
    revise(workspace, {"a": texts})
    third = threading.Event()
    requests = itertools.count(1)

    class Slow(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if next(requests) == 3:
                third.set()
            time.sleep(0.1)
            rows = [{"index": n, "embedding": [1.0] * 8} for n in range(len(body["input"]))]
            data = json.dumps({"data": rows}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        section = EmbedConfig(model="openai:slow", endpoint=url, dimension=8)
        workspace.params.write_text(json.dumps({"embed": section.model_dump()}))
        with subprocess.Popen(_command(workspace), stderr=subprocess.PIPE, text=True) as process:
            assert third.wait(60)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        server.shutdown()
    assert (process.returncode, said) == (143, "")
    config = Config(embed=section)
    finished = len(set(vectors(workspace, config).keys()))
    assert 2 * embed.STEP_CHUNKS <= finished < len(texts)
    assert embed.missing_chunks(config, workspace) == len(texts) - finished


def test_threads_load_kept_weights_once_and_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that answers several readers at a time has one model in memory."""
    loads, inside = [], []

    class Slow:
        def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
            inside.append(1)
            time.sleep(0.01)
            assert inside.pop() and not inside
            return np.ones((len(texts), 384), np.float32)

    def load(model: object, config: object) -> Slow:
        loads.append(model)
        time.sleep(0.05)
        return Slow()

    embed._kept_encoder.cache_clear()
    monkeypatch.setattr(embed, "load_encoder", load)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: embed.encode_query(Config(), Workspace(tmp_path), text), "abcdefgh"))
    embed._kept_encoder.cache_clear()
    assert (len(found), len(loads)) == (8, 1)
