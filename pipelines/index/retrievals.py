"""The retrieval log: what readers asked of an index, how long it took, and which documents answer nobody.

Search writes it through `snapdex.log_retrieval`, because a reader may not touch the table. A search counts more than
its log: where no row can be written, it answers all the same.
"""

import hashlib
import logging
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import errors
from psycopg.rows import class_row, scalar_row

from pipelines.config import LogConfig
from pipelines.index.catalog import Index
from pipelines.index.db import Connection
from pipelines.index.search import Result

LOGGER = logging.getLogger("snapdex")
LISTED = 20  # documents
SLOWEST = 10  # searches
ANSWER = "ask"  # the mode of a row that is an answer
_LASTING = (  # a replica, a role that may not, a database that knows no log: the next row would not get in either
    errors.ReadOnlySqlTransaction,
    errors.ObjectNotInPrerequisiteState,
    errors.InsufficientPrivilege,
    errors.UndefinedFunction,
    errors.UndefinedTable,
)


class RetrievalLog:
    """Writes a row for each search that is in the sample; warns once, and gives up where no row will ever get in."""

    def __init__(self, connection: Connection, config: LogConfig) -> None:
        self._connection = connection
        self._config = config
        self._open = config.share > 0
        self._warned = False

    def write(self, result: Result, *, k: int, seconds: float) -> None:
        if not self._open or random.random() >= self._config.share:
            return
        documents = list(dict.fromkeys(hit.document for hit in result.hits))
        facts = [result.index, result.version, result.mode, k, len(result.hits), result.abstained, seconds]
        self._insert(facts, result.query, documents)

    def write_answer(
        self, index: str, version: int, question: str, cited: Sequence[str], *, abstained: bool, seconds: float
    ) -> None:
        """A row for an answer, beside those of its searches. cited: the documents of its citations."""
        if not self._open or random.random() >= self._config.share:
            return
        documents = list(dict.fromkeys(cited))
        self._insert([index, version, ANSWER, len(cited), len(documents), abstained, seconds], question, documents)

    def _insert(self, facts: list[Any], query: str, documents: list[str]) -> None:
        try:
            with self._connection.transaction():  # a savepoint where the caller has one: an error stays in here
                self._connection.execute(
                    "SELECT snapdex.log_retrieval(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    [*facts, self._config.share, self._kept(query), documents],
                )
        except psycopg.Error as error:
            self._open = not isinstance(error, _LASTING)
            if not self._warned:
                self._warned = True
                reason = " ".join(str(error).split())
                LOGGER.warning("searches of %s are not logged: %s", facts[0], reason)

    def _kept(self, query: str) -> str | None:
        if self._config.query == "hash":
            return hashlib.sha256(query.encode("utf-8")).hexdigest()
        return query if self._config.query == "text" else None


@dataclass(frozen=True)
class Week:
    """A row of `snapdex.retrieval_weekly`; `searches` is estimated from those that were logged."""

    week: date  # its Monday, in UTC
    searches: int
    logged: int
    unanswered: float  # share that was abstained from
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Returned:
    """How many searches, by estimate, a document was returned for."""

    document: str
    searches: int


@dataclass(frozen=True)
class Cited:
    """How many answers, by estimate, cited a document."""

    document: str
    answers: int


@dataclass(frozen=True)
class Slow:
    """A search that took long in the database; its query as far as the section `log` lets it be kept."""

    at: datetime
    mode: str
    milliseconds: float
    hits: int
    query: str | None


@dataclass(frozen=True)
class Usage:
    """What readers asked for since a Monday; `never`: the first of the active version's documents that nobody got."""

    index: str
    since: date
    weeks: list[Week]
    returned: list[Returned]
    never_count: int
    never: list[str]
    cited: list[Cited]
    slowest: list[Slow]


def usage(connection: Connection, index: Index, weeks: int, now: datetime | None = None) -> Usage:
    """The last so many weeks, this one included. Raises `NotFoundError` where no version is active."""
    today = (now or datetime.now(UTC)).astimezone(UTC).date()
    monday = today - timedelta(days=today.weekday(), weeks=weeks - 1)
    since = datetime(monday.year, monday.month, monday.day, tzinfo=UTC)
    with connection.cursor(row_factory=class_row(Week)) as cursor:
        found = cursor.execute(
            "SELECT week, searches, logged, unanswered, p50_ms, p95_ms FROM snapdex.retrieval_weekly"
            " WHERE index = %s AND week >= %s ORDER BY week DESC",
            [index.name, monday],
        ).fetchall()
    with connection.cursor(row_factory=class_row(Returned)) as cursor:
        returned = cursor.execute(
            "SELECT document, searches FROM snapdex.most_retrieved(%s, %s, %s)", [index.name, since, LISTED]
        ).fetchall()
    with connection.cursor(row_factory=scalar_row) as cursor:
        never = cursor.execute("SELECT snapdex.never_retrieved(%s, %s)", [index.name, since]).fetchall()
    with connection.cursor(row_factory=class_row(Cited)) as cursor:
        cited = cursor.execute("SELECT * FROM snapdex.most_cited(%s, %s, %s)", [index.name, since, LISTED]).fetchall()
    with connection.cursor(row_factory=class_row(Slow)) as cursor:
        slow = cursor.execute("SELECT * FROM snapdex.slowest(%s, %s, %s)", [index.name, since, SLOWEST]).fetchall()
    return Usage(index.name, monday, found, returned, len(never), never[:LISTED], cited, slow)


_EXPIRED = "FROM snapdex.retrieval_log WHERE index_id = %s AND at < clock_timestamp() - make_interval(days => %s)"


def expired(connection: Connection, index: Index, keep_days: int) -> int:
    """How many rows `expire` would delete now."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        return int(cursor.execute(f"SELECT count(*) {_EXPIRED}".encode(), [index.id, keep_days]).fetchone() or 0)


def expire(connection: Connection, index: Index, keep_days: int) -> int:
    """Delete rows that are older than so many days; returns how many."""
    return connection.execute(f"DELETE {_EXPIRED}".encode(), [index.id, keep_days]).rowcount


# -- erasing -----------------------------------------------------------------------------------------------------------

_NAMES = """
    index_id = %(index)s AND (documents && %(documents)s::text[]
        OR EXISTS (SELECT FROM unnest(%(documents)s::text[]) AS d WHERE position(d IN query) > 0))
"""


def naming(connection: Connection, index: Index, documents: Collection[str]) -> int:
    """How many rows name one of these documents, as what was returned or in the text of the query."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        values = {"index": index.id, "documents": list(documents)}
        statement = f"SELECT count(*) FROM snapdex.retrieval_log WHERE {_NAMES}"
        return int(cursor.execute(statement.encode(), values).fetchone() or 0)


def erase_names(connection: Connection, index: Index, documents: Collection[str]) -> int:
    """Take these documents out of the log, and the queries that name or found one; the rows go on to count.

    Inside the transaction of an erasure, after it wrote what is erased: rows of searches that are on their way come
    after it, and `log_retrieval` leaves the names out.
    """
    connection.execute("LOCK TABLE snapdex.retrieval_log IN SHARE ROW EXCLUSIVE MODE")
    statement = (
        "UPDATE snapdex.retrieval_log SET query = NULL, documents = ARRAY("
        "SELECT d FROM unnest(documents) WITH ORDINALITY AS u (d, place) WHERE d <> ALL(%(documents)s) ORDER BY place)"
        f" WHERE {_NAMES}"
    )
    return connection.execute(statement.encode(), {"index": index.id, "documents": list(documents)}).rowcount
