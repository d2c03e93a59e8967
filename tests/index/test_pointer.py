"""What publish and rollback do to the pointer, how versions are named, and what readers see meanwhile."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.config import RetentionConfig
from pipelines.errors import ConfigError, ConflictError, NotFoundError
from pipelines.index import search
from pipelines.index.catalog import get_index, get_version, remove_tag, set_tag
from pipelines.index.db import connect
from pipelines.index.retention import forget
from tests.conftest import Databases
from tests.index.state import State

MOVES = 200
READERS = 4


@pytest.fixture(scope="module")
def original(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        state = State.make(tmp_path_factory.mktemp("pointer") / "workspace", url)
        for text in ("first", "second", "third"):
            state.write({"a.md": f"# {text}\n\nThe text of the {text} version.\n"}).run()
        yield state


@pytest.fixture
def three(original: State, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """Versions 1, 2 and 3, published in this order."""
    with databases(like=original.url) as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        yield original.copy(tmp_path / "workspace", url)


def test_rollback_goes_to_the_version_that_was_active_before(three: State) -> None:
    three.publish(1)
    assert three.rollback().version == 3
    assert "third" in three.search("text of the version").hits[0].text


def test_rolling_back_twice_goes_back_twice(three: State) -> None:
    assert [three.rollback().version, three.rollback().version] == [2, 1]
    with pytest.raises(NotFoundError):
        three.rollback()
    assert three.index().active_version == 1


def test_a_run_with_unchanged_sources_does_not_undo_a_rollback(three: State) -> None:
    three.rollback()
    report = three.run()
    assert (report["version"], report["published"], three.index().active_version) == (3, False, 2)
    assert "snapdex publish 3" in report["note"]


def test_a_run_does_not_publish_what_was_rolled_back_under_another_number(three: State) -> None:
    """A version that nobody published lies over it, so the run seals its content once more."""
    three.write({"a.md": "# fourth\n\nSomething else.\n"}).run(publish=False)
    three.rollback()
    three.rollback()
    for text in ("second", "third"):
        report = three.write({"a.md": f"# {text}\n\nThe text of the {text} version.\n"}).run()
        assert report["snapshot"] == three.version(2 if text == "second" else 3).snapshot
        assert (report["published"], three.index().active_version) == (False, 1)
        assert f"snapdex publish {report['version']}" in report["note"]
    assert [version.number for version in three.versions()] == [1, 2, 3, 4, 5, 6]
    assert three.run()["published"] is False
    report = three.write({"a.md": "# fifth\n\nA change.\n"}).run()
    assert report["published"]
    assert three.write({"a.md": "# third\n\nThe text of the third version.\n"}).run()["published"], "it is a change"


def test_a_run_does_not_publish_what_was_rolled_back_and_then_forgotten(three: State) -> None:
    three.write({"a.md": "# fourth\n\nSomething else.\n"}).run(publish=False)
    three.rollback()
    with three.connect() as connection:
        plan = forget(connection, get_index(connection, three.name), RetentionConfig(keep_last=0, keep_daily=0))
    assert plan.forget == [1, 3]
    report = three.write({"a.md": "# third\n\nThe text of the third version.\n"}).run()
    assert (report["version"], report["published"], three.index().active_version) == (5, False, 2)


def test_a_run_with_changed_sources_publishes_a_new_number(three: State) -> None:
    three.rollback()
    report = three.write({"a.md": "# fourth\n\nSomething else.\n"}).run()
    assert (report["version"], report["published"], report["parent"]) == (4, True, 2)
    assert three.rollback().version == 2


def test_going_back_to_old_content_is_a_new_version_of_the_same_snapshot(three: State) -> None:
    report = three.write({"a.md": "# first\n\nThe text of the first version.\n"}).run()
    assert (report["version"], report["embedded"]) == (4, 0)
    assert report["snapshot"] == three.version(1).snapshot


def test_a_run_that_changes_nothing_says_so(three: State) -> None:
    report = three.run()
    expected = {"version": 3, "published": False, "parsed": 0, "embedded": 0, "note": None}
    assert {key: report[key] for key in expected} == expected
    assert three.index().epoch == 3


def test_a_rollback_to_the_active_version_is_refused(three: State) -> None:
    with pytest.raises(ConflictError):
        three.rollback("v3")
    assert three.index().epoch == 3


def test_an_unknown_version_is_not_published(three: State) -> None:
    with pytest.raises(NotFoundError):
        three.publish(9)
    assert three.index().active_version == 3


def test_every_way_to_name_a_version(three: State) -> None:
    three.rollback()
    with three.connect() as connection:
        index = get_index(connection, three.name)
        set_tag(connection, index, "before-migration", 1)
        names = {"v3": 3, "3": 3, 3: 3, "before-migration": 1, "active": 2, three.version(1).snapshot[:8]: 1}
        assert {name: get_version(connection, index, name).number for name in names} == names
        set_tag(connection, index, "before-migration", 2)
        assert get_version(connection, index, "before-migration").number == 2
        remove_tag(connection, index, "before-migration")
        for unknown in ("before-migration", "v9", "0", "", "vv3", "' OR true --", "99999999999999"):
            with pytest.raises(NotFoundError):
                get_version(connection, index, unknown)
        for taken in ("active", "v7", "7", "", "two words"):
            with pytest.raises(ConfigError):
                set_tag(connection, index, taken, 1)


def test_a_prefix_of_several_snapshots_is_refused_and_one_of_several_versions_is_the_newest(three: State) -> None:
    three.write({"a.md": "# first\n\nThe text of the first version.\n"}).run()
    assert three.version(three.version(1).snapshot[:12]).number == 4
    three.execute("UPDATE snapdex.version SET snapshot = 'abcdef' || substr(snapshot, 7) WHERE number IN (2, 3)")
    with pytest.raises(NotFoundError, match="beginning of 2 snapshot ids"):
        three.version("abcdef")


def test_readers_see_one_version_while_the_pointer_moves(three: State) -> None:
    """I5: version, snapshot and text of a result belong together, and there is never nothing."""
    said = {version.number: version.snapshot for version in three.versions()}
    words = {1: "first", 2: "second", 3: "third"}
    vector = three.vector("text of the version")
    stop = threading.Event()
    wrong: list[str] = []
    seen: list[int] = []

    def read() -> None:
        with connect(three.url) as connection:
            while not stop.is_set():
                for mode in ("dense", "lexical", "hybrid"):
                    found = search(connection, three.name, "text of the version", vector=vector, mode=mode)
                    seen.append(found.version)
                    if found.snapshot != said[found.version] or len(found.hits) != 1:
                        wrong.append(f"{mode} v{found.version} {found.snapshot[:8]}: {len(found.hits)} hits")
                    elif words[found.version] not in found.hits[0].text:
                        wrong.append(f"{mode} v{found.version} has the text {found.hits[0].text!r}")

    readers = [threading.Thread(target=read) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        with connect(three.url) as connection:
            for move in range(MOVES):
                epoch = 3 + move
                connection.execute(
                    "SELECT snapdex.move_pointer(%s, %s, %s, gen_random_uuid(), 'publish', 'test', NULL)",
                    [three.name, move % 3 + 1, epoch],
                )
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert set(seen) == {1, 2, 3}
    assert three.index().epoch == 3 + MOVES
