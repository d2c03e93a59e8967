"""forget, prune, pins: what goes goes, and what is left answers as before."""

import importlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import prune as job
from pipelines.config import RetentionConfig
from pipelines.errors import ConflictError, NotFoundError
from pipelines.index import retention
from pipelines.index.catalog import Version, get_index, set_tag
from pipelines.index.db import Connection
from pipelines.index.prune import Garbage, garbage
from pipelines.ingest import locked
from tests.index.state import State

PRUNE = importlib.import_module("pipelines.prune")
NOTHING = RetentionConfig(keep_last=0, keep_daily=0, keep_tagged=False)


def document(number: int, paragraphs: int = 3) -> str:
    return "\n\n".join(
        f"Chapter {number} part {n} tells about subject{number * 100 + n} and the common matter of all chapters."
        for n in range(paragraphs)
    )


def forget(state: State, dry_run: bool = False, **policy: Any) -> retention.ForgetPlan:
    with state.connect() as connection:
        return retention.forget(
            connection,
            get_index(connection, state.name),
            NOTHING.model_copy(update=policy),
            dry_run=dry_run,
        )


def prune(state: State, dry_run: bool = False) -> dict[str, Any]:
    return job.prune(state.config, state.workspace, dry_run=dry_run)


def numbers(state: State) -> list[int]:
    return [version.number for version in state.versions()]


def answers(state: State, version: int) -> list[Any]:
    """What a reader gets: ids and scores of exact searches in every mode."""
    return [
        [(hit.chunk, hit.score, hit.document) for hit in state.search(query, mode=mode, at=version, exact=True).hits]
        for query in ("common matter of chapter", "subject301 part", "subject2")
        for mode in ("dense", "lexical", "hybrid")
    ]


@pytest.fixture
def history(state: State) -> State:
    """Six versions: a document more in each, one edited, and the first one gone in the last two."""
    for n in range(6):
        state.write({f"{n}.md": document(n), "edited.md": document(50 + n, 4)})
        if n == 4:
            state.path("0.md").unlink()
        state.run()
    return state


# -- the plan ----------------------------------------------------------------------------------------------------------

DAY = datetime(2026, 1, 1, 12, tzinfo=UTC)


def version(number: int, day: int, tags: list[str], active: bool) -> Version:
    return Version(
        number,
        "",
        None,
        DAY + timedelta(days=day),
        active,
        tags,
        0,
        0,
        "",
        "",
        "",
        "",
        0,
        {},
        None,
        None,
        None,
        None,
        None,
        None,
        None,
    )


histories = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), min_size=1, max_size=12).flatmap(
    lambda rows: st.tuples(st.just(rows), st.integers(0, len(rows) - 1))
)


@given(histories, st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_a_plan_keeps_what_its_rules_say_and_nothing_else(
    rows: tuple[list[tuple[int, bool, bool]], int], last: int, daily: int, tagged: bool
) -> None:
    given, active = rows
    day, versions = 0, []
    for number, (days, tag, _) in enumerate(given, 1):
        day += days
        versions.append(version(number, day, ["t"] if tag else [], number == active + 1))
    versions.reverse()
    pinned = {number for number, (_, _, pin) in enumerate(given, 1) if pin}
    plan = retention.plan_forget(
        versions, pinned, RetentionConfig(keep_last=last, keep_daily=daily, keep_tagged=tagged)
    )
    days = sorted({v.created_at.date() for v in versions}, reverse=True)[:daily]
    expected = (
        {v.number for v in versions if v.active or (tagged and v.tags)}
        | pinned
        | {v.number for v in versions[: max(1, last)]}
        | {max(v.number for v in versions if v.created_at.date() == day) for day in days}
    )
    assert set(plan.keep) == expected
    assert sorted([*plan.keep, *plan.forget]) == sorted(v.number for v in versions)
    assert all(plan.keep.values())


# -- forget ------------------------------------------------------------------------------------------------------------


def test_forgetting_does_what_the_dry_run_says(history: State) -> None:
    with history.connect() as connection:
        index = get_index(connection, history.name)
        retention.pin(connection, index, 2)
        set_tag(connection, index, "release", 3)
    history.rollback("v4")
    plan = forget(history, dry_run=True, keep_tagged=True)
    assert numbers(history) == [1, 2, 3, 4, 5, 6]
    assert forget(history, keep_tagged=True) == plan
    assert plan.forget == [1, 5]
    assert numbers(history) == [2, 3, 4, 6]
    with pytest.raises(NotFoundError):
        history.version("v1")


def test_a_number_is_not_used_again(history: State) -> None:
    forget(history)
    assert numbers(history) == [6]
    assert history.write({"new.md": document(90)}).run()["version"] == 7


def test_a_pin_holds_until_it_is_taken_back(history: State) -> None:
    with history.connect() as connection:
        index = get_index(connection, history.name)
        retention.pin(connection, index, 1)
        retention.pin(connection, index, 1)
        forget(history)
        assert numbers(history) == [1, 6]
        assert retention.unpin(connection, index, 1) and not retention.unpin(connection, index, 1)
    forget(history)
    assert numbers(history) == [6]


@pytest.mark.parametrize("first", ["pin", "forget"])
def test_a_pin_and_a_forget_wait_for_each_other(history: State, first: str) -> None:
    """Whoever comes second sees what the first has done: no version is lost that somebody was promised."""
    index = history.index()
    with history.connect() as one, history.connect() as two, history.connect() as watch, ThreadPoolExecutor(1) as pool:
        do: dict[str, Callable[[Connection], Any]] = {
            "pin": lambda connection: retention.pin(connection, index, 1),
            "forget": lambda connection: retention.forget(connection, index, NOTHING),
        }
        with one.transaction():
            do.pop(first)(one)
            second = pool.submit(do.popitem()[1], two)
            while not (second.done() or watch.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone()):
                time.sleep(0.005)
            assert not second.done()
        if first == "pin":
            assert second.result().forget == [2, 3, 4, 5]
        else:
            with pytest.raises(ConflictError, match="forgotten just now"):
                second.result()
    assert numbers(history) == ([1, 6] if first == "pin" else [6])


# -- prune -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def half_forgotten(history: State) -> Iterator[State]:
    with history.connect() as connection:
        for number in (2, 5):
            retention.pin(connection, get_index(connection, history.name), number)
    forget(history)
    yield history


def test_what_is_left_answers_as_before(half_forgotten: State) -> None:
    """I9, lexical statistics included."""
    state = half_forgotten
    before = {number: answers(state, number) for number in (2, 5, 6)}
    assert all(any(each) for each in before.values())
    planned = prune(state, dry_run=True)
    assert {number: answers(state, number) for number in (2, 5, 6)} == before
    done = prune(state)
    assert done == planned | {"dry_run": False}
    assert done["rows"]["chunk"] > 0 and done["rows"]["vectors"] == done["rows"]["chunk"] == done["rows"]["lexical"]
    assert {number: answers(state, number) for number in (2, 5, 6)} == before
    for number in (2, 5, 6):
        assert state.problems(number) == []
    assert state.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    assert sum(prune(state)["rows"].values()) == 0


def test_the_last_count_of_several_forgotten_versions_holds(state: State) -> None:
    """Words that each of them has changed, and the next one that is left has not."""
    for n in range(3):
        state.write({f"{n}.md": document(n)}).run()
    state.write({"other.md": "Other words, and not one of those."}).run()
    before = answers(state, 4)
    assert forget(state).forget == [1, 2, 3]
    prune(state)
    assert answers(state, 4) == before


def test_nothing_is_left_of_what_is_gone(history: State) -> None:
    forget(history)
    prune(history)
    kept = history.documents(6)
    assert {row[0] for row in history.execute("SELECT document FROM membership")} == set(kept)
    assert history.execute("SELECT count(*) FROM revision") == [(len(kept),)]
    chunks = history.version(6).chunks
    for table in ("chunk", "lexical", "vectors_1"):
        assert history.execute(f"SELECT count(*) FROM {table}") == [(chunks,)]
    assert history.execute("SELECT DISTINCT version FROM document_frequency") == [(6,)]
    store = history.workspace.store("chunks")
    assert len(list(store.keys())) == len(kept)


def test_prune_leaves_a_run_in_the_workspace_alone(half_forgotten: State) -> None:
    """What a run has parsed and embedded, and no manifest names yet, is not needed by anything that prune knows."""
    state = half_forgotten
    before = state.execute("SELECT count(*) FROM chunk"), state.workspace.store("chunks").segments()
    with locked(state.workspace), pytest.raises(ConflictError, match="another run"):
        prune(state)
    assert (state.execute("SELECT count(*) FROM chunk"), state.workspace.store("chunks").segments()) == before


def test_a_later_run_finds_what_it_needs(half_forgotten: State) -> None:
    """What came back after it was pruned is parsed and embedded again, and no more than that."""
    state = half_forgotten
    prune(state)
    report = state.write({"0.md": document(0), "edited.md": document(53, 4)}).run()
    assert (report["version"], report["published"]) == (7, True)
    assert state.problems() == []
    assert state.run()["version"] == 7


def test_what_cannot_be_read_stops_everything(half_forgotten: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """I6: a manifest that says what is needed is damaged, so nothing is deleted."""
    state = half_forgotten
    path = state.workspace.manifest("other", "chunks")
    path.parent.mkdir(parents=True)
    path.write_text("#snapdex chunks 1\nrubbish\n", "utf-8")
    before = state.execute("SELECT count(*) FROM chunk"), state.workspace.store("chunks").segments()
    with pytest.raises(Exception, match="not a manifest"):
        prune(state)
    assert (state.execute("SELECT count(*) FROM chunk"), state.workspace.store("chunks").segments()) == before


def test_a_build_that_was_given_up_leaves_nothing(state: State) -> None:
    state.write({f"{n}.md": document(n) for n in range(3)}).run()
    rows = {table: state.execute(f"SELECT count(*) FROM {table}") for table in ("revision", "chunk", "vectors_1")}
    for n in range(3):
        with pytest.MonkeyPatch.context() as patch:
            build = importlib.import_module("pipelines.index.build")
            patch.setattr(build, "seal", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                state.write({"tried.md": document(70 + n)}).run()
    with state.connect() as connection:
        assert garbage(connection, get_index(connection, state.name)) == Garbage(0, 3, 6, 6, 6, 6)
    prune(state)
    assert {table: state.execute(f"SELECT count(*) FROM {table}") for table in rows} == rows
    assert state.problems() == []


def test_vectors_of_a_space_that_no_version_uses(state: State) -> None:
    state.write({"a.md": document(1)}).run()
    other = state.with_settings("embed.model=hash:32")
    other.run()
    forget(state)
    prune(other)
    assert other.execute("SELECT count(*) FROM vectors_1") == [(0,)]
    assert other.problems() == []
    back = state.run()  # the first space again: its vectors are gone, also from the store
    assert back["embedded"] > 0 and state.problems() == []
