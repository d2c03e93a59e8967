"""Two at once: builders against each other, against prune, and publishers for one pointer."""

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipelines import index
from pipelines.config import RetentionConfig
from pipelines.errors import ConflictError, IntegrityError
from pipelines.index import retention
from pipelines.index.db import Connection
from pipelines.index.publish import moves
from tests.index.state import State

BUILD = importlib.import_module("pipelines.index.build")  # the package has functions of these names
PRUNE = importlib.import_module("pipelines.index.prune")
WORDS = ["version", "pointer", "snapshot", "reader", "publish", "rollback", "prune", "gate", "chunk", "vector", "epoch"]


def document(number: int, paragraphs: int = 4) -> str:
    lines = [f"Paragraph {number}-{at} is about {WORDS[(number + at) % len(WORDS)]}." for at in range(paragraphs)]
    return f"# Document {number}\n\n" + "\n\n".join(lines) + "\n"


def test_what_prune_took_while_a_build_was_loading_is_loaded_again(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I6. Between loading and sealing, nothing references the new rows: prune is right to take them."""
    state.write({f"{n}.md": document(n) for n in range(6)}).run()
    taken = prune_before_seal(
        state,
        monkeypatch,
        [
            "DELETE FROM revision WHERE {orphan}; DELETE FROM occurrence o WHERE {lost}",
            "DELETE FROM revision WHERE {orphan}; DELETE FROM occurrence o WHERE {lost}; {chunks}",
            "{lexical}",
            "{vectors}",
        ],
    )
    report = state.write({"new.md": document(100), "6.md": document(6)}).run()
    assert taken == [1, 2, 3, 4]
    assert (report["version"], report["published"]) == (2, True)
    assert state.problems(2) == state.problems(1) == []
    assert state.search("document 100 about epoch", "lexical").hits[0].document == "new.md"


def test_a_chunk_that_prune_took_from_under_a_revision_is_loaded_again(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prune deletes an orphan chunk that it looked at before the builder's revision used it."""
    state.write({"a.md": document(1)}).run()
    taken = prune_before_seal(state, monkeypatch, ["{only_chunks}"])
    report = state.write({"b.md": document(2)}).run()
    assert (taken, report["version"]) == ([1], 2)
    assert state.problems(2) == []


def test_vectors_of_documents_that_stay_are_loaded_again_too(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prune empties a space that no version uses, just before one does: its documents are those that are there."""
    other = state.with_settings("embed.model=hash:32")
    state.write({f"{n}.md": document(n) for n in range(3)}).run()
    other.run()
    with state.connect() as connection:
        retention.forget(connection, state.index(), RetentionConfig(keep_last=0, keep_daily=0))
    real = BUILD.seal
    taken: list[int] = []

    def seal(connection: Connection, *arguments: Any, **options: Any) -> Any:
        with state.connect() as beside:
            taken.append(index.prune(beside, state.index()).vectors if not taken else 0)
        return real(connection, *arguments, **options)

    monkeypatch.setattr(BUILD, "seal", seal)
    assert state.run()["version"] == 3
    assert taken == [state.version(3).chunks, 0]
    assert state.problems(3) == []
    assert {hit.document for hit in state.search("document 2", "dense", k=100).hits} == {"0.md", "1.md", "2.md"}


def test_a_space_that_is_used_again_after_prune_has_looked_is_not_emptied(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version is sealed in it between the look and the lock."""
    other = state.with_settings("embed.model=hash:32")
    state.write({f"{n}.md": document(n) for n in range(3)}).run()
    other.run()
    with state.connect() as connection:
        retention.forget(connection, state.index(), RetentionConfig(keep_last=0, keep_daily=0))
    real = PRUNE._vector_tables
    looks: list[dict[str, bool]] = []

    def look(*arguments: Any) -> dict[str, bool]:
        looks.append(real(*arguments))
        if len(looks) == 2:  # the first is for the progress
            state.run()
        return looks[-1]

    monkeypatch.setattr(PRUNE, "_vector_tables", look)
    with state.connect() as connection:
        assert index.prune(connection, state.index()).vectors == 0
    assert [list(each.values()) for each in looks] == [[False, True], [False, True], [True, True]]
    assert state.version("active").number == 3
    assert state.problems(3) == []


def test_a_build_does_not_drop_what_a_version_holds(state: State) -> None:
    """A revision of a sealed version that lost a chunk is damage, which verify finds, and not what prune has taken."""
    state.write({f"{n}.md": document(n) for n in range(3)}).run()
    held = state.execute("SELECT id, key FROM revision ORDER BY id")
    state.execute("DELETE FROM occurrence WHERE revision_id = %s AND ordinal = 0", held[-1][0])
    with pytest.raises(IntegrityError, match="lack chunks"):
        state.write({"new.md": document(100)}).run()
    assert set(held) <= set(state.execute("SELECT id, key FROM revision"))
    assert state.documents(1).keys() == {"0.md", "1.md", "2.md"}
    assert any("its chunks are not those that were loaded" in problem for problem in state.problems(1))


def prune_before_seal(state: State, monkeypatch: pytest.MonkeyPatch, attempts: list[str]) -> list[int]:
    """Before the n-th sealing from now, run the n-th of `attempts`; returns the list of those that were run."""
    space = state.execute("SELECT space_id FROM snapdex.version LIMIT 1")[0][0]
    used = "(SELECT chunk_id FROM occurrence JOIN membership USING (revision_id))"
    parts = {
        "orphan": "id NOT IN (SELECT revision_id FROM membership)",
        "lost": "NOT EXISTS (SELECT FROM revision r WHERE r.id = o.revision_id)",
        "chunks": "DELETE FROM chunk c WHERE NOT EXISTS (SELECT FROM occurrence o WHERE o.chunk_id = c.id);"
        "DELETE FROM lexical l WHERE NOT EXISTS (SELECT FROM chunk c WHERE c.id = l.chunk_id);"
        f"DELETE FROM vectors_{space} v WHERE NOT EXISTS (SELECT FROM chunk c WHERE c.id = v.chunk_id)",
        "lexical": f"DELETE FROM lexical WHERE chunk_id NOT IN {used}",
        "vectors": f"DELETE FROM vectors_{space} WHERE chunk_id NOT IN {used}",
        "only_chunks": f"DELETE FROM chunk WHERE id NOT IN {used}",
    }
    real = BUILD.seal
    taken: list[int] = []

    def seal(*arguments: Any, **options: Any) -> Any:
        if len(taken) < len(attempts):
            state.execute(attempts[len(taken)].format(**parts))
            taken.append(len(taken) + 1)
        return real(*arguments, **options)

    monkeypatch.setattr(BUILD, "seal", seal)
    return taken


def test_from_one_space_to_another_and_back(state: State) -> None:
    """A document added under the second space has no vector in the first: sealing looks at all documents for it."""
    other = state.with_settings("embed.model=hash:32")
    first = state.write({f"{n}.md": document(n) for n in range(3)}).run()
    second = other.write({"late.md": document(50)}).run()
    third = state.run()
    assert [report["version"] for report in (first, second, third)] == [1, 2, 3]
    assert third["embedded"] == second["chunks"]["added"]  # the chunks of late.md, and no other
    assert len({report["snapshot"] for report in (first, second, third)}) == 3
    for version in (1, 2, 3):
        assert state.problems(version) == []
    old = {f"{n}.md" for n in range(3)}
    for each, version, expected in ((state, 1, old), (other, 2, old | {"late.md"}), (state, 3, old | {"late.md"})):
        hits = each.search("document 50", "dense", k=100, at=version).hits
        assert {hit.document for hit in hits} == expected


@pytest.mark.parametrize("round_", range(3))
def test_two_builders_of_the_same_documents(tmp_path: Path, database: str, round_: int) -> None:
    """Each in a workspace of its own, as two machines would be: both succeed, and everything is there once."""
    documents = {f"{n}.md": document(n, paragraphs=20) for n in range(12)}
    states = [State.make(tmp_path / f"machine-{n}", database) for n in range(2)]
    for each in states:
        each.write(documents)
    built = at_once([lambda each=each: each.run(publish=False) for each in states])
    assert len({report["snapshot"] for report in built}) == 1
    assert {report["version"] for report in built} == {1}
    counts = states[0].execute(
        "SELECT (SELECT count(*) FROM revision), (SELECT count(*) FROM chunk), (SELECT count(*) FROM occurrence),"
        " (SELECT count(*) FROM lexical), (SELECT count(*) FROM vectors_1), (SELECT count(*) FROM membership)"
    )
    chunks = built[0]["chunks"]["total"]
    assert counts == [(12, chunks, chunks, chunks, chunks, 12)]
    assert states[0].problems("v1") == []
    assert graphs(states[0]) == [("vectors_1_graph", True)]

    # Now the graph is there, and most vectors are new: both find it cheaper to build it anew.
    for each in states:
        each.write({f"{n}.md": document(n + 100 * (round_ + 1), paragraphs=20) for n in range(10)})
    built = at_once([lambda each=each: each.run(publish=False) for each in states])
    assert {report["version"] for report in built} == {2}
    assert states[0].problems("v2") == states[0].problems("v1") == []
    assert graphs(states[0]) == [("vectors_1_graph", True)]


def graphs(state: State) -> list[tuple[Any, ...]]:
    return state.execute(
        "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indexrelid::regclass::text LIKE '%_graph'"
    )


def test_two_builders_of_different_documents(tmp_path: Path, database: str) -> None:
    states = [State.make(tmp_path / f"machine-{n}", database) for n in range(2)]
    for n, each in enumerate(states):
        each.write({f"{at}.md": document(at + 7 * n, paragraphs=20) for at in range(10)})
    built = at_once([lambda each=each: each.run(publish=False) for each in states])
    assert sorted(report["version"] for report in built) == [1, 2]
    for each, report in zip(states, built, strict=True):
        assert each.version(report["version"]).snapshot == report["snapshot"]
        assert each.problems(report["version"]) == []


@pytest.mark.parametrize("step", ["ensure_graph", "load_missing_weights", "seal"])
def test_a_build_that_died_is_finished_by_the_next_run(
    state: State, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """I8: rows and indexes are as if it had not died."""
    state.write({f"{n}.md": document(n) for n in range(4)}).run()
    before = index_names(state)
    with monkeypatch.context() as patch:
        patch.setattr(BUILD, step, die)
        with pytest.raises(KeyboardInterrupt):
            state.write({f"{n}.md": document(n) for n in range(4, 12)}).run()
    assert state.index().active_version == 1 and state.problems() == []
    report = state.run()
    assert (report["version"], report["embedded"]) == (2, 0)
    assert state.problems() == []
    assert index_names(state) == before


def die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def index_names(state: State) -> list[tuple[Any, ...]]:
    return state.execute("SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1")


# -- the pointer -------------------------------------------------------------------------------------------------------


def test_of_two_publishers_from_one_epoch_one_wins(state: State) -> None:
    for n in range(3):
        state.write({"a.md": document(n)}).run(publish=False)
    state.publish(1)
    epoch = state.index().epoch
    state.publish(2, epoch=epoch)
    with pytest.raises(ConflictError, match="version 2 is active now") as caught:
        state.publish(3, epoch=epoch)
    assert caught.value.exit_code == 5
    assert state.index().active_version == 2


def test_many_publishers_at_once(state: State) -> None:
    """As many moves as were acknowledged, no more and no fewer, each from where the one before it ended."""
    for n in range(4):
        state.write({"a.md": document(n)}).run(publish=False)

    def work(version: int) -> list[index.Move]:
        done: list[index.Move] = []
        for _ in range(6):
            try:
                done.append(state.publish(version % 4 + 1))
            except ConflictError:
                continue
        return done

    acknowledged = [move for done in at_once([lambda n=n: work(n) for n in range(8)]) for move in done]
    with state.connect() as connection:
        logged = moves(connection, state.name)[::-1]
    assert sorted(acknowledged, key=lambda move: move.epoch) == logged
    assert [move.epoch for move in logged] == list(range(1, len(logged) + 1))
    assert [move.previous for move in logged] == [None, *(move.version for move in logged[:-1])]
    found = state.index()
    assert (found.active_version, found.epoch) == (logged[-1].version, len(logged))


def test_a_run_that_is_overtaken_says_so(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody publishes between this run's build and its publish: the version is kept, the pointer is theirs."""
    state.write({"a.md": document(1)}).run()
    theirs = State.make(tmp_path / "theirs", state.url).write({"a.md": document(2)})

    def build_then_wait(*arguments: Any, **options: Any) -> Any:
        built = BUILD.run(*arguments, **options)
        monkeypatch.setattr(index, "build", BUILD.run)
        theirs.run()
        return built

    monkeypatch.setattr(index, "build", build_then_wait)
    with pytest.raises(ConflictError, match="published by somebody else"):
        state.write({"a.md": document(3)}).run()
    assert state.index().active_version == 3
    assert [version.number for version in state.versions()] == [1, 2, 3]


def at_once(jobs: list[Callable[[], Any]]) -> list[Any]:
    """The results of the jobs, which all start at the same moment."""
    barrier = threading.Barrier(len(jobs))

    def job(each: Callable[[], Any]) -> Any:
        barrier.wait()
        return each()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(job, jobs))
