"""What is written lasts, and what prune must keep although no version in the database holds it."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import IntegrityError
from pipelines.failpoints import EXIT_CODE
from pipelines.files import Manifest, SegmentWriter, Store
from pipelines.index.catalog import get_index
from pipelines.index.db import Connection
from pipelines.index.prune import prune as prune_rows
from tests.faults.driver import perform
from tests.faults.invariants import Witness, counts, store_keys
from tests.faults.model import Model
from tests.faults.test_failpoints import EDITED, GUIDE, MOVED, after_runs, forgotten, tag_in_git, write
from tests.index.state import State

SEAL = importlib.import_module("pipelines.index.seal")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """What is made durable, renamed and deleted from now on, in order."""
    done: list[tuple[str, Path]] = []

    def fsync(descriptor: int, real: Callable[[int], None] = os.fsync) -> None:
        done.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    def replace(self: Path, target: Path, real: Callable[..., Path] = Path.replace) -> Path:
        done.append(("rename", Path(target)))
        return real(self, target)

    def unlink(self: Path, missing_ok: bool = False, real: Callable[..., None] = Path.unlink) -> None:
        done.append(("delete", self))
        real(self, missing_ok)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "unlink", unlink)
    return done


def test_a_file_is_durable_before_it_has_its_name_and_its_name_before_the_writer_goes_on(
    tmp_path: Path, calls: list[tuple[str, Path]]
) -> None:
    """Killing a process does not show this: the kernel keeps what was written. A power failure would."""
    Manifest("chunks", {}, [("a", "b")]).write(tmp_path / "chunks.tsv")
    with SegmentWriter(tmp_path) as writer:
        writer.add(bytes(32), b"value")
    assert [kind for kind, _ in calls] == ["fsync", "rename", "fsync"] * 2
    for before, renamed, after in (calls[:3], calls[3:]):
        assert before[1].name.startswith(".tmp-") and before[1].parent == tmp_path
        assert renamed[1].parent == after[1] == tmp_path


def test_nothing_old_is_deleted_before_the_new_is_durable(tmp_path: Path, calls: list[tuple[str, Path]]) -> None:
    with SegmentWriter(tmp_path) as writer:
        for number in range(10):
            writer.add(bytes([number]) * 32, b"value")
    calls.clear()
    Store(tmp_path).rewrite(Store(tmp_path).segments(), lambda key: key[0] > 3)
    assert [kind for kind, _ in calls] == ["fsync", "rename", "fsync", "delete", "fsync"]
    assert calls[2][1] == calls[4][1] == tmp_path


def test_prune_beside_an_empty_database_keeps_what_is_recorded(state: State, clone: Callable[..., State]) -> None:
    """The database is lost, and somebody prunes before they restore."""
    for documents in (GUIDE, EDITED, MOVED):
        state.become(documents)
        tag_in_git(state, state.run()["version"])
    here = clone(state, empty=True)
    before = store_keys(here)
    assert perform(here, "prune").code == 0
    assert store_keys(here) == before
    for name in ("v1", "v3", "v2"):
        assert perform(here, "restore", name).code == 0
    model = Model()
    for documents, number in ((GUIDE, 1), (MOVED, 3), (EDITED, 2)):
        model = model.restore(documents, number)[-1]
    Witness(here).check(model)


@pytest.mark.parametrize("damage", ["tag", "object", "manifest"])
def test_where_the_record_cannot_be_read_nothing_is_deleted(state: State, damage: str) -> None:
    """I6: also no row, though the database says clearly which ones nobody needs."""
    for documents in (GUIDE, EDITED, MOVED):
        state.become(documents)
        tag_in_git(state, state.run()["version"])
    forgotten(state)
    if damage == "tag":
        next((state.root / ".git" / "refs" / "tags").rglob("v3-*")).write_text("0" * 39 + "1\n")
    elif damage == "object":
        for path in (state.root / ".git" / "objects").glob("[0-9a-f][0-9a-f]/*"):
            if path.stat().st_size > 150:
                path.chmod(0o600)
                path.write_bytes(path.read_bytes()[:-9] + bytes(9))
    else:
        state.workspace.manifest(state.name, "embeddings").write_text("rubbish", "utf-8")
    before = counts(state), store_keys(state)
    assert perform(state, "prune").code == IntegrityError.exit_code
    assert (counts(state), store_keys(state)) == before


def test_prune_keeps_what_an_interrupted_run_has_paid_for(state: State) -> None:
    """It has embedded, and died before there was a version: the manifests name what it needs."""
    after_runs(GUIDE, then=write(EDITED))(state)
    ending = perform(state, "run", environment={"SNAPDEX_FAILPOINT": "build.revisions_loaded"})
    assert ending.code == EXIT_CODE
    assert perform(state, "prune").code == 0
    report = state.run()
    assert (report["version"], report["parsed"], report["embedded"]) == (2, 0, 0)
    Witness(state).check(Model().run(GUIDE)[-1].run(EDITED)[-1])


def test_a_prune_that_died_while_it_built_indexes_anew_leaves_none_behind(state: State) -> None:
    """An index that REINDEX CONCURRENTLY did not finish is invalid, and costs every insert; the next prune drops it."""
    after_runs(GUIDE, EDITED, MOVED, then=forgotten)(state)
    state.execute("CREATE INDEX chunk_key_ccnew ON chunk (key)")
    state.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chunk_key_ccnew'::regclass")
    with state.connect() as connection:
        prune_rows(connection, get_index(connection, state.name))
    assert state.execute("SELECT to_regclass('chunk_key_ccnew')") == [(None,)]
    assert state.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


def test_prune_leaves_no_row_that_nothing_reaches(state: State) -> None:
    after_runs(GUIDE, EDITED, MOVED, then=forgotten)(state)
    assert perform(state, "forget").code == 0
    assert perform(state, "prune").code == 0
    version = state.version(3)
    expected = {"membership": 2, "revision": 2, "chunk": version.chunks, "lexical": version.chunks}
    assert {table: n for table, n in counts(state).items() if table in expected} == expected
    assert counts(state)["vectors_1"] == version.chunks
    assert state.execute("SELECT DISTINCT version FROM document_frequency") == [(3,)]


def test_rows_that_do_not_give_the_snapshot_are_not_sealed(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last look before the commit: whatever went wrong with the rows, no version is made of them."""
    after_runs(GUIDE, then=write(EDITED))(state)
    before = state.execute("SELECT document, from_version, to_version FROM membership ORDER BY 1, 2")
    real = SEAL._move_membership

    def lose_one(connection: Connection, *arguments: Any) -> int:
        more: int = real(connection, *arguments)
        connection.execute("DELETE FROM membership WHERE document = 'gate.md'")
        return more

    monkeypatch.setattr(SEAL, "_move_membership", lose_one)
    with pytest.raises(IntegrityError, match="give snapshot"):
        state.run()
    assert state.execute("SELECT document, from_version, to_version FROM membership ORDER BY 1, 2") == before
    Witness(state).check(Model().run(GUIDE)[-1])


def test_a_number_means_one_thing_after_the_database_was_lost(state: State, clone: Callable[..., State]) -> None:
    """An empty database has no memory; the manifests and the record have."""
    for documents in (GUIDE, EDITED):
        state.become(documents)
        tag_in_git(state, state.run()["version"])
    lost = clone(state, empty=True)
    lost.become(MOVED)
    assert lost.run()["version"] == 3
    restored = clone(state, empty=True)
    assert perform(restored, "restore", "v1").code == 0
    assert [version.number for version in restored.versions()] == [1]
    restored.become(MOVED)
    assert restored.run()["version"] == 3
