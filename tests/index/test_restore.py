"""restore: a recorded version back, into any database, without an encoder; nothing at all where files are damaged."""

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipelines import embed, verify
from pipelines.config import RetentionConfig
from pipelines.errors import InputError, IntegrityError, NotFoundError, SnapdexError
from pipelines.index.retention import forget
from pipelines.prune import prune
from pipelines.restore import restore
from tests.conftest import Databases
from tests.index.state import State


def document(number: int, paragraphs: int = 4) -> str:
    return "\n\n".join(f"Page {number} says in part {n} what thing{number * 10 + n} is for." for n in range(paragraphs))


def git(state: State, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *identity, *arguments], cwd=state.root, check=True, capture_output=True)


def record(state: State, report: dict[str, Any]) -> None:
    """As `run --record` leaves it: the manifests in a commit with a tag."""
    git(state, "add", "-f", "data/manifests")
    git(state, "commit", "-qm", f"v{report['version']}")
    git(state, "tag", f"snapdex/{state.name}/v{report['version']}-{report['snapshot'][:12]}")


@pytest.fixture
def recorded(state: State, monkeypatch: pytest.MonkeyPatch) -> tuple[State, list[dict[str, Any]]]:
    """Three recorded versions; from here on, who calls the encoder fails."""
    git(state, "init", "-q")
    reports = []
    for n in range(3):
        state.write({f"{n}.md": document(n), "edited.md": document(40 + n)})
        reports.append(state.run())
        record(state, reports[-1])

    def forbidden(*_: object) -> None:
        raise AssertionError("the encoder was called")

    monkeypatch.setattr(embed, "load_encoder", forbidden)
    return state, reports


def answers(state: State, version: int) -> list[Any]:
    return [
        [
            (hit.chunk, hit.score, hit.document, hit.start)
            for hit in state.search(query, mode="lexical", at=version).hits
        ]
        for query in ("what is part 2 for", "thing401", "page")
    ]


def bring_back(state: State, target: str | None = None, **options: Any) -> dict[str, Any]:
    return restore(state.config, state.workspace, target, **options)


def verified(state: State, version: str = "active") -> dict[str, Any]:
    return verify.verify(state.config, state.workspace, version, deep=True)


@pytest.fixture
def elsewhere(
    recorded: tuple[State, list[dict[str, Any]]], databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The same workspace with an empty database."""
    state, _ = recorded
    with databases() as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        yield State(state.root, url, state.config)


def test_into_an_empty_database(recorded: tuple[State, list[dict[str, Any]]], elsewhere: State) -> None:
    state, reports = recorded
    before = answers(state, 2)
    report = bring_back(elsewhere, "v2")
    assert (report["version"], report["snapshot"], report["published"]) == (2, reports[1]["snapshot"], True)
    assert elsewhere.index().active_version == 2
    found = verified(elsewhere)
    assert found["ok"], found
    assert found["checked"]["vectors"] == elsewhere.version(2).chunks > 0
    assert answers(elsewhere, 2) == before
    assert any(before)


def test_every_version_in_any_order(recorded: tuple[State, list[dict[str, Any]]], elsewhere: State) -> None:
    """A number means the same content for ever; where the order of numbers forbids it, a new one is given."""
    _, reports = recorded
    numbers = {}
    for target in (2, 3, 1):
        report = bring_back(elsewhere, f"v{target}")
        assert report["snapshot"] == reports[target - 1]["snapshot"]
        assert elsewhere.version("active").snapshot == report["snapshot"]
        assert verified(elsewhere)["ok"]
        numbers[target] = report["version"]
    assert numbers == {2: 2, 3: 3, 1: 4}
    again = bring_back(elsewhere, reports[1]["snapshot"][:8])
    assert (again["version"], again["loaded"]) == (2, 0)


def test_the_workspace_gets_the_manifests(recorded: tuple[State, list[dict[str, Any]]]) -> None:
    state, _ = recorded
    bring_back(state, "v1")
    assert state.index().active_version == 1
    changed = subprocess.run(
        ["git", "diff", "--name-only", f"snapdex/{state.name}/v1-{state.version(1).snapshot[:12]}"],
        cwd=state.root,
        check=True,
        capture_output=True,
        text=True,
    )
    assert changed.stdout == ""
    assert verified(state)["ok"]


@pytest.mark.parametrize("files", [3, 1])  # of the version whose manifests are checked out
def test_numbers_go_on_where_the_record_ends(
    recorded: tuple[State, list[dict[str, Any]]], elsewhere: State, files: int
) -> None:
    git(elsewhere, "checkout", "-q", f"snapdex/{elsewhere.name}/v{files}-{recorded[1][files - 1]['snapshot'][:12]}")
    bring_back(elsewhere, "v1")
    elsewhere.become({"0.md": document(0), "edited.md": document(40)})  # what version 1 was made of
    report = elsewhere.write({"edited.md": document(41)}).run()  # whose chunks have vectors since version 2
    assert report["version"] == 4
    assert elsewhere.problems() == []


def test_a_run_in_a_new_database_takes_no_number_that_git_has(
    recorded: tuple[State, list[dict[str, Any]]], elsewhere: State
) -> None:
    git(elsewhere, "checkout", "-q", f"snapdex/{elsewhere.name}/v1-{recorded[1][0]['snapshot'][:12]}")
    elsewhere.become({"0.md": document(0), "edited.md": document(41)})
    assert elsewhere.run()["version"] == 4


def test_a_run_does_not_undo_it(recorded: tuple[State, list[dict[str, Any]]]) -> None:
    """A forgotten version comes back as a new number; the sources still are those of the one that was active."""
    state, reports = recorded
    with state.connect() as connection:
        forget(connection, state.index(), RetentionConfig(keep_last=0, keep_daily=0))
    assert bring_back(state, "v1")["version"] == 4
    for _ in range(2):
        report = state.run()
        assert (report["snapshot"], report["version"], report["published"]) == (reports[2]["snapshot"], 5, False)
        assert "snapdex publish 5" in report["note"]
    assert state.index().active_version == 4
    assert state.rollback().version == 3


def test_the_present_files_are_the_default(elsewhere: State) -> None:
    report = bring_back(elsewhere, None)
    assert (report["version"], report["published"], report["commit"]) == (3, True, None)
    assert bring_back(elsewhere, None)["published"] is False


def test_git_revisions_name_versions_too(elsewhere: State) -> None:
    assert bring_back(elsewhere, "HEAD~1", publish=False)["version"] == 2
    assert elsewhere.index().active_version is None
    for unknown in ("v9", "no-such-branch", "--all"):
        with pytest.raises(NotFoundError):
            bring_back(elsewhere, unknown)


def rows(state: State) -> list[Any]:
    with state.connect() as connection:
        found = connection.execute(
            "SELECT schemaname, relname FROM pg_stat_user_tables WHERE schemaname ~ '^snapdex' ORDER BY 1, 2"
        ).fetchall()
        return [
            (schema, table, connection.execute(f'SELECT count(*) FROM "{schema}"."{table}"'.encode()).fetchone())
            for schema, table in found
            if table != "installed"
        ]


def regions(path: Path) -> list[int]:
    size = path.stat().st_size
    return sorted({0, 5, size // 4, size // 2, 3 * size // 4, size - 9, size - 1, random.Random(size).randrange(size)})


def test_what_was_pruned_is_not_restored(recorded: tuple[State, list[dict[str, Any]]]) -> None:
    """Neither here, nor can this command make it again."""
    state, _ = recorded
    with state.connect() as connection:
        forget(connection, state.index(), RetentionConfig(keep_last=0, keep_daily=0))
    prune(state.config, state.workspace)
    before = rows(state), state.index()
    with pytest.raises(InputError, match="entries that the manifests name") as caught:
        bring_back(state, "v1")
    assert "dvc pull" in caught.value.hint and "pruned" in caught.value.hint and "--recompute" not in caught.value.hint
    assert (rows(state), state.index()) == before
    assert verified(state)["ok"]


@pytest.mark.parametrize("kind", ["documents", "chunks", "embeddings"])
def test_a_flipped_bit_in_a_segment_is_found_first(elsewhere: State, kind: str) -> None:
    with elsewhere.connect():
        pass
    before = rows(elsewhere)
    for path in sorted((elsewhere.root / "data" / "store" / kind).rglob("*.parquet")):
        whole = path.read_bytes()
        for at in regions(path):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(IntegrityError, match="damaged"):
                bring_back(elsewhere)
        path.write_bytes(whole[:-1])
        with pytest.raises(IntegrityError, match="damaged"):
            bring_back(elsewhere)
        path.unlink()
        with pytest.raises(SnapdexError, match="entries that the manifests name"):
            bring_back(elsewhere)
        path.write_bytes(whole)
    assert rows(elsewhere) == before
    assert bring_back(elsewhere)["published"]


def test_a_flipped_bit_in_a_manifest_is_found_first(recorded: tuple[State, list[dict[str, Any]]]) -> None:
    state, _ = recorded
    before = rows(state)
    for path in sorted((state.root / "data" / "manifests" / state.name).glob("*.tsv")):
        whole = path.read_bytes()
        for at in regions(path):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(IntegrityError):
                bring_back(state)
            assert not verified(state)["ok"]
        path.unlink()
        with pytest.raises(NotFoundError, match="no manifest"):
            bring_back(state)
        path.write_bytes(whole)
    assert rows(state) == before


def test_manifests_of_different_versions_do_not_go_together(recorded: tuple[State, list[dict[str, Any]]]) -> None:
    state, _ = recorded
    git(state, "checkout", "HEAD~1", "--", f"data/manifests/{state.name}/chunks.tsv")
    with pytest.raises(IntegrityError, match="do not belong together"):
        bring_back(state)


def test_deep_verification_sees_what_rows_alone_do_not_show(recorded: tuple[State, list[dict[str, Any]]]) -> None:
    state, _ = recorded
    assert verified(state)["ok"]
    state.execute(
        "UPDATE vectors_1 SET embedding = (SELECT embedding FROM vectors_1 ORDER BY chunk_id DESC LIMIT 1)"
        " WHERE chunk_id = (SELECT min(chunk_id) FROM vectors_1)"
    )
    state.execute(
        "UPDATE lexical SET weights = (SELECT weights FROM lexical ORDER BY chunk_id DESC LIMIT 1)"
        " WHERE chunk_id = (SELECT min(chunk_id) FROM lexical)"
    )
    assert state.problems() == []
    problems = verified(state, "v1")["problems"]
    assert len(problems) == 2
    assert "vector" in problems[0] and "term weights" in problems[1]
