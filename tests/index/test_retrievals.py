"""The retrieval log: what it keeps and what it does not, who may write it, and what is told from it."""

import hashlib
import logging
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from pipelines import erase as erasure
from pipelines import quality
from pipelines.config import load_config
from pipelines.evaluate import Query
from pipelines.index import open_index, retrievals
from pipelines.index.reader import Reader
from pipelines.index.retrievals import RetrievalLog
from pipelines.prune import prune
from tests.index.state import State

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)  # a Wednesday
DOCUMENTS = {
    "prune.md": "# Prune\n\nPrune deletes what no version reaches.\n",
    "refund.md": "# Refunds\n\nSupport may refund 250 euros.\n",
    "quiet.md": "# Quiet\n\nNobody ever asks about drayage.\n",
}


@pytest.fixture
def guide(state: State) -> State:
    state.write(DOCUMENTS).run()
    return state


def search(state: State, query: str, *settings: str, mode: str = "lexical", at: str | None = None) -> None:
    config = load_config(state.root / "params.yaml", list(settings))
    with open_index(workspace=state.root, config=config, log=True) as reader:
        reader.search(query, mode=mode, k=3, at=at)


def rows(state: State, columns: str = "*") -> list[tuple[object, ...]]:
    return state.execute(f"SELECT {columns} FROM snapdex.retrieval_log ORDER BY id")


def add(state: State, *, at: datetime, seconds: float = 0.01, share: float = 1.0, documents: str = "") -> None:
    """A row as a search at that time would have left it."""
    names = documents.split()
    state.execute(
        "INSERT INTO snapdex.retrieval_log (at, index_id, version, mode, k, hits, abstained, seconds, share, documents)"
        " VALUES (%s, 1, 1, 'hybrid', 10, %s, %s, %s, %s, %s)",
        *(at, len(names), not names, seconds, share, names),
    )


def test_a_search_leaves_a_row_without_its_query(guide: State) -> None:
    with open_index(workspace=guide.root) as reader:
        reader.search("what does prune delete?", mode="dense", k=2)
    search(guide, "xyzzy")
    search(guide, "refund", at="v1")
    first, nothing, old = rows(guide, "version, mode, k, hits, abstained, share, query, documents, seconds")
    assert first[:7] == (1, "dense", 2, 2, False, 1.0, None) and len(first[7]) == 2  # type: ignore[arg-type]
    assert nothing[:8] == (1, "lexical", 3, 0, True, 1.0, None, [])
    assert (old[0], old[7]) == (1, ["refund.md"])
    assert all(0 < row[8] < 60 for row in (first, nothing, old))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kept", "found"), [("text", "refund"), ("hash", hashlib.sha256(b"refund").hexdigest()), ("none", None)]
)
def test_what_is_kept_of_the_query(guide: State, kept: str, found: str | None) -> None:
    search(guide, "refund", f"log.query={kept}")
    assert rows(guide, "query") == [(found,)]


def test_a_share_of_searches_is_logged(guide: State, monkeypatch: pytest.MonkeyPatch) -> None:
    search(guide, "refund", "log.share=0.0")
    chances = iter([0.2, 0.3, 0.0])
    monkeypatch.setattr("random.random", lambda: next(chances))
    for query in ("refund", "prune", "drayage"):
        search(guide, query, "log.share=0.25")
    assert rows(guide, "share, documents") == [(0.25, ["refund.md"]), (0.25, ["quiet.md"])]


def test_measuring_is_not_asking(guide: State) -> None:
    queries = [Query("1", "who may refund?", {"refund.md": 1.0})]
    assert quality.evaluate_version(guide.config, guide.workspace, queries, 1).queries == 1
    assert guide.problems() == []
    assert rows(guide) == []


def test_a_reader_writes_the_log_and_cannot_read_it(guide: State) -> None:
    with guide.connect() as connection:
        connection.execute("SET ROLE snapdex_reader")
        call = "SELECT snapdex.log_retrieval('handbook', 1, 'dense', 5, 1, false, 0.1, 1, NULL, '{prune.md}')"
        connection.execute(call.encode())
        for statement in (
            "SELECT * FROM snapdex.retrieval_log",
            "SELECT * FROM snapdex.retrieval_weekly",
            "SELECT snapdex.never_retrieved('handbook', '-infinity')",
            "SELECT snapdex.most_retrieved('handbook', '-infinity')",
            "INSERT INTO snapdex.retrieval_log DEFAULT VALUES",
            "DELETE FROM snapdex.retrieval_log",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
        with connection.transaction():
            connection.execute(call.encode())
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    assert rows(guide, "documents") == [(["prune.md"],)] * 2


@pytest.mark.parametrize(
    "obstacle",
    [
        "SET default_transaction_read_only = on",
        "DROP FUNCTION snapdex.log_retrieval",
        "REVOKE EXECUTE ON FUNCTION snapdex.log_retrieval FROM snapdex_reader; SET ROLE snapdex_reader",
    ],
    ids=["replica", "old schema", "no right"],
)
def test_a_log_that_cannot_be_written_is_a_warning(
    guide: State, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    """One for each reader, which does not try again; also inside a transaction of the caller."""
    with guide.connect() as connection:
        connection.execute(obstacle.encode())
        log = RetrievalLog(connection, guide.config.log)
        with caplog.at_level(logging.WARNING, "snapdex"):
            for _ in range(3):
                with connection.transaction():
                    connection.execute("SELECT 1")
                    log.write(guide.search("refund", mode="lexical"), k=3, seconds=0.1)
                    assert connection.execute("SELECT 1").fetchone() == (1,)
    (warned,) = caplog.records
    assert "are not logged" in warned.getMessage() and "refund" not in warned.getMessage()
    assert rows(guide) == []


def test_a_table_that_is_rewritten_does_not_hold_a_search_up(guide: State, caplog: pytest.LogCaptureFixture) -> None:
    """And the next search is logged again."""
    with guide.connect() as mine, guide.connect() as other:
        reader = Reader(
            mine, "handbook", guide.config, guide.workspace, lambda *_: [], RetrievalLog(mine, guide.config.log)
        )
        began = datetime.now(UTC)
        with caplog.at_level(logging.WARNING, "snapdex"), other.transaction():
            other.execute("LOCK TABLE snapdex.retrieval_log")
            for _ in range(2):
                assert reader.search("refund", mode="lexical").hits
        assert datetime.now(UTC) - began < timedelta(seconds=2) and len(caplog.records) == 1
        reader.search("refund", mode="lexical")
    assert len(rows(guide)) == 1


def test_figures_of_weeks(guide: State) -> None:
    monday = datetime(2026, 11, 16, tzinfo=UTC)
    for n in range(1, 21):
        add(guide, at=monday + timedelta(hours=n), seconds=n / 1000, documents="prune.md")
    add(guide, at=monday, seconds=0.0105, share=0.05)  # stands for twenty that found nothing
    add(guide, at=monday - timedelta(seconds=1), documents="refund.md prune.md", seconds=0.5)
    add(guide, at=monday - timedelta(weeks=5), documents="quiet.md")
    with guide.connect() as connection:
        found = retrievals.usage(connection, guide.index(), 2, NOW)
        this, before = found.weeks
        assert (this.week, this.searches, this.logged, this.unanswered) == (date(2026, 11, 16), 40, 21, 0.5)
        assert (round(this.p50_ms, 6), round(this.p95_ms, 6)) == (10.5, 19.0)
        assert (before.week, before.searches, before.unanswered) == (date(2026, 11, 9), 1, 0)
        assert [(each.document, each.searches) for each in found.returned] == [("prune.md", 21), ("refund.md", 1)]
        assert (found.since, found.never_count, found.never) == (date(2026, 11, 9), 1, ["quiet.md"])
        assert len(retrievals.usage(connection, guide.index(), 6, NOW).weeks) == 3


def test_never_retrieved_is_about_the_active_version(guide: State) -> None:
    guide.path("quiet.md").unlink()
    guide.write({"new.md": "# New\n\nSomething new.\n"}).run()
    add(guide, at=NOW, documents="prune.md")

    def never(since: str) -> list[str]:
        return [name for (name,) in guide.execute("SELECT snapdex.never_retrieved('handbook', %s::timestamptz)", since)]

    assert never("2026-11-01") == ["new.md", "refund.md"]
    assert never("2026-11-19") == ["new.md", "prune.md", "refund.md"]


def test_an_erased_document_leaves_the_log(guide: State) -> None:
    """So do queries that found or name it, and it does not come in again with a search that was on its way."""
    for query in ("refund", "prune", "open refund.md please drayage"):
        search(guide, query, "log.query=text")
    assert rows(guide, "documents")[0] == (["refund.md"],)
    plan = erasure.erase(guide.config, guide.workspace, "refund.md", dry_run=True)
    assert (plan["searches"], len(rows(guide))) == (2, 3)
    erasure.erase(guide.config, guide.workspace, "refund.md")
    guide.execute(
        "SELECT snapdex.log_retrieval('handbook', 1, 'dense', 5, 2, false, 0.1, 1, 'q', '"
        "{prune.md,refund.md,quiet.md}')"
    )
    kept = rows(guide, "query, hits")
    assert kept == [(None, 1), ("prune", 1), (None, kept[2][1]), (None, 2)]
    assert rows(guide, "documents")[3] == (["prune.md", "quiet.md"],)
    assert "refund" not in str(rows(guide))
    assert "refund" not in str(guide.execute("SELECT * FROM pg_stats WHERE tablename = 'retrieval_log'"))
    guide.execute("SELECT snapdex.never_retrieved('handbook', '-infinity')")


def test_a_name_that_only_the_log_has_can_be_erased(guide: State) -> None:
    add(guide, at=NOW, documents="long-gone.md prune.md")
    erasure.erase(guide.config, guide.workspace, "long-gone.md")
    assert rows(guide, "documents, hits") == [(["prune.md"], 2)]


def test_old_rows_go_with_prune(guide: State) -> None:
    now = datetime.now(UTC)
    for days in (1, 29, 31, 400):
        add(guide, at=now - timedelta(days=days))
    config = guide.with_settings("log.keep_days=30").config
    assert prune(config, guide.workspace, dry_run=True)["rows"]["retrieval_log"] == 2
    assert len(rows(guide)) == 4
    assert prune(config, guide.workspace)["rows"]["retrieval_log"] == 2
    assert prune(config, guide.workspace)["rows"]["retrieval_log"] == 0
    assert len(rows(guide)) == 2
