"""Any sequence of edits, runs, publishes and rollbacks, beside a model that is a few dictionaries."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from pipelines.chunk.revision import make_revision
from pipelines.errors import NotFoundError
from pipelines.index import search
from pipelines.index.catalog import Version, get_index, versions
from pipelines.index.db import Connection
from pipelines.index.history import diff, documents_of
from pipelines.index.seal import snapshot_of
from pipelines.index.verify import verify
from pipelines.manifests import ChunksRow, read_chunks, read_space
from pipelines.media import MARKDOWN
from pipelines.model import revision_key
from pipelines.models import load_tokenizer, resolve_model
from pipelines.parse.document import parse_bytes
from tests.index.state import State, sha256

NAMES = ["a.md", "b.md", "deep/c.md", "d.md", "ä ö.md"]
PARAGRAPHS = [
    "Rolling back moves one row, and readers notice nothing.",
    "A version is sealed once its rows are complete.",
    "Prune deletes what no version reaches, tags included.",
    "The gate compares a candidate with the active version.",
    "Embeddings are kept by the hash of their text.",
    "Readers see one version, whatever is published meanwhile.",
]
QUERY = "how does rolling back work for readers of a version"

TEXTS = st.lists(st.sampled_from(PARAGRAPHS), min_size=1, max_size=3)
NAME = st.sampled_from(NAMES)
EDITS = st.one_of(
    st.tuples(st.just("write"), NAME, TEXTS),
    st.tuples(st.just("delete"), NAME),
    st.tuples(st.just("copy"), NAME, NAME),
    st.tuples(st.just("rename"), NAME, NAME),
    st.tuples(st.just("revert"), st.integers(1, 5)),
)

Edit = tuple[Any, ...]
Documents = dict[str, str]


class Machine(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        root = Path(self._directory.name)
        self.state = State.make(
            root / "workspace", self.url, "chunk.max_tokens=16", f"index.name={root.name.lower().strip('_')}"
        )
        self.tokenizer = load_tokenizer(resolve_model(self.state.config.embed, self.state.workspace))
        self.now: Documents = {}
        self.vector = self.state.vector(QUERY)
        self.versions: dict[int, Documents] = {}
        self.answers: dict[tuple[str, str], list[tuple[str, str, float]]] = {}
        self.stack: list[int] = []
        self.published: set[int] = set()
        self.ran: set[str] = set()  # texts that were in some run

    def teardown(self) -> None:
        self._directory.cleanup()

    @property
    def active(self) -> int | None:
        return self.stack[-1] if self.stack else None

    # -- documents

    @initialize(paragraphs=TEXTS)
    def start(self, paragraphs: list[str]) -> None:
        self.write("a.md", paragraphs)

    def write(self, name: str, paragraphs: list[str]) -> None:
        self.now[name] = "# On versions\n\n" + "\n\n".join(paragraphs) + "\n"

    def delete(self, name: str) -> None:
        if len(self.now) > 1:
            self.now.pop(name, None)

    def copy(self, name: str, to: str) -> None:
        if name in self.now:
            self.now[to] = self.now[name]

    def rename(self, name: str, to: str) -> None:
        if name in self.now:
            self.now[to] = self.now.pop(name)

    def revert(self, version: int) -> None:
        if version in self.versions:
            self.now = dict(self.versions[version])

    # -- versions

    @rule(edits=st.lists(EDITS, max_size=3), publish=st.booleans())
    def run(self, edits: list[Edit], publish: bool) -> None:
        for edit, *arguments in edits:
            getattr(self, edit)(*arguments)
        self.state.become(self.now)
        planned = self.state.plan()
        report = self.state.run(publish=publish)
        assert (planned["documents"], planned["chunks"]) == (report["documents"], report["chunks"])
        assert planned["to_embed"] == report["embedded"]
        if self.ran.issuperset(self.now.values()):
            assert report["embedded"] == 0
        self.ran.update(self.now.values())

        newest = max(self.versions, default=0)
        same = [v for v in (self.active, newest) if v and self.versions[v] == self.now]
        expected = same[0] if same else newest + 1
        if not same:
            self.versions[expected] = dict(self.now)
        moves = publish and expected != self.active and expected not in self.published
        assert (report["version"], report["published"]) == (expected, moves)
        assert report["chunks"]["total"] == self.state.version(expected).chunks
        assert bool(report["note"]) == (publish and not moves and expected != self.active)
        if self.active and not same:
            with self.state.connect() as connection:
                changes, added, removed = diff(
                    connection, get_index(connection, self.state.name), self.active, expected
                )
            assert (report["chunks"]["added"], report["chunks"]["removed"]) == (added, removed)
            assert report["documents"]["renamed"] == len(changes.renamed)
        if moves:
            self._push(expected)
        self.check()

    @precondition(lambda self: len(self.versions) > 1)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from([v for v in self.versions if v != self.active]))
        self.state.publish(version)
        self._push(version)
        self.check()

    @precondition(lambda self: self.stack)
    @rule()
    def rollback(self) -> None:
        if len(self.stack) == 1:
            with pytest.raises(NotFoundError):
                self.state.rollback()
        else:
            self.stack.pop()
            assert self.state.rollback().version == self.active
        self.check()

    @precondition(lambda self: self.stack and len(self.versions) > 1)
    @rule(data=st.data())
    def rollback_to(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from([v for v in self.versions if v != self.active]))
        self.state.rollback(f"v{version}")
        if version in self.stack:
            while self.stack[-1] != version:
                self.stack.pop()
        else:
            self.stack.append(version)
        self.published.add(version)
        self.check()

    def _push(self, version: int) -> None:
        self.stack.append(version)
        self.published.add(version)

    # -- what must hold after every step that reached the database

    def check(self) -> None:
        with self.state.connect() as connection:
            index = get_index(connection, self.state.name)
            found = versions(connection, index)
            assert index.active_version == self.active
            assert sorted(version.number for version in found) == sorted(self.versions)
            for version in found:
                documents = self.versions[version.number]
                assert version.snapshot == self.snapshot(documents)
                actual = {each.uri: each.content_sha256 for each in documents_of(connection, index, version)}
                assert actual == {uri: sha256(text) for uri, text in documents.items()}
                assert verify(connection, index, version)[1] == []
                for mode in ("dense", "lexical"):
                    self.ask(connection, version, mode)

    def ask(self, connection: Connection, version: Version, mode: str) -> None:
        """The answer of a version never changes, and is that of every other version of the same snapshot."""
        name, number = self.state.name, version.number
        found = search(connection, name, QUERY, vector=self.vector, mode=mode, at=number, exact=True)
        answer = [(hit.document, hit.chunk, hit.score) for hit in found.hits]
        assert self.answers.setdefault((version.snapshot, mode), answer) == answer

    def snapshot(self, documents: Documents) -> str:
        """Computed from the texts alone: no store, no manifest row, no database."""
        workspace, config = self.state.workspace, self.state.config
        recipe = read_chunks(workspace, self.state.name)[0]
        rows = []
        for name, text in documents.items():
            revision = make_revision(parse_bytes(text.encode(), MARKDOWN, config.parse), config.chunk, self.tokenizer)
            key = revision_key(sha256(text), MARKDOWN, recipe)
            rows.append(ChunksRow(name, sha256(text), MARKDOWN, key, len(revision.chunks), revision.chunks_sha256))
        return snapshot_of(rows, recipe, read_space(workspace, self.state.name)["space"])


def test_model(database: str) -> None:
    class OnThisDatabase(Machine):
        url = database

    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(
            max_examples=20,
            stateful_step_count=10,
            deadline=None,
            derandomize=True,
            phases=(Phase.generate,),  # shrinking takes minutes, and ten steps can be read as they are
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
