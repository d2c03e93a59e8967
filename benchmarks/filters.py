"""Search in parts of 10^5 chunks (see `growing.py`): every version, and filters of 10, 1 and 0.1 %.

Truth is `exact=True`. Latencies are those of the server, as in `recall.py`. The table of its own that the newest full
version is compared with gets the least ef at which it finds as much.
"""

from collections.abc import Sequence
from functools import partial
from statistics import mean, median
from typing import Any

from psycopg.types.json import Jsonb

from benchmarks.growing import FULL_VERSIONS, SHARES, Growing, make_growing
from benchmarks.recall import CONFIG, FULL, NARROW, K, ask_dedicated, chunk_ids, dedicated_table, seconds
from benchmarks.report import Options, Report
from benchmarks.synthetic import Vectors, build_version
from benchmarks.workspaces import kept_or_fresh, say
from pipelines import index
from pipelines.files import Workspace
from pipelines.index.catalog import find_index
from pipelines.index.db import Connection

EFS = (40, 60, 80, 100, 125, 150, 175, 200, 250, 300, 400)
_IDS = "SELECT * FROM snapdex._dense(snapdex._resolve(%s, %s), %s::vector, 10, %s, false)"


def measure(options: Options) -> Report:
    documents, queries = (2000, 60) if options.quick else (10_000, 150)
    with kept_or_fresh(options.keep, "growing") as workspace:
        growing = make_growing(workspace, CONFIG, documents, queries)
        _build(workspace, growing)
        report = Report("filters", f"{documents * 10:,} chunks in ten versions, {queries} queries, k {K}, dense")
        vectors = [*growing.near, *growing.hard]
        with index.connect(index.database_url(workspace)) as connection:
            ids = chunk_ids(connection)
            for version in (*range(1, FULL_VERSIONS + 1), NARROW):
                found, _, _ = _ask(connection, ids, vectors, version, {})
                report.add(f"version {version}: recall@{K}", found, "", ">= 0.97")
            _compare(report, connection, growing, ids, vectors)
            for n in SHARES:
                found, rows, taken = _ask(connection, ids, vectors, FULL, {f"of{n}": 7})
                report.add(f"filter of 1/{n}: fewest rows", rows, "", f"== {K}")
                report.add(f"filter of 1/{n}: recall@{K}", found, "", ">= 0.97")
                report.add_milliseconds(f"filter of 1/{n}", taken, tail=95)
    return report


def _build(workspace: Workspace, growing: Growing) -> None:
    """The versions that this database does not hold yet."""
    with index.connect(index.database_url(workspace)) as connection:
        index.migrate(connection)
        there = find_index(connection, CONFIG.index.name)
    for version in range(there.last_version + 1 if there else 1, NARROW + 1):
        build_version(workspace, CONFIG, growing.rows(version))
        say(f"filters: version {version} is there")


def _ask(
    connection: Connection, ids: dict[str, int], vectors: Sequence[Vectors], version: int, filter: dict[str, Any]
) -> tuple[float, int, list[float]]:
    """Recall against exact search, the fewest rows of any answer, and seconds to find ids."""
    found, rows, taken = [], K, []
    for vector in vectors:
        ask = partial(
            index.search,
            connection,
            CONFIG.index.name,
            "",
            vector=vector.tolist(),
            k=K,
            mode="dense",
            at=version,
            filter=filter,
        )
        truth = {ids[hit.chunk] for hit in ask(exact=True).hits}
        values = [CONFIG.index.name, version, str(vector.tolist()), Jsonb(filter)]
        taken.append(seconds(connection, _IDS, values))
        answer = {ids[hit.chunk] for hit in ask().hits}
        found.append(len(truth & answer) / len(truth))
        rows = min(rows, len(answer))
    return mean(found), rows, taken


def _compare(
    report: Report, connection: Connection, growing: Growing, ids: dict[str, int], vectors: Sequence[Vectors]
) -> None:
    table = dedicated_table(connection, growing, FULL)
    found, _, _ = _ask(connection, ids, vectors, FULL, {})
    truths = [
        {
            ids[hit.chunk]
            for hit in index.search(
                connection, CONFIG.index.name, "", vector=vector.tolist(), k=K, mode="dense", at=FULL, exact=True
            ).hits
        }
        for vector in vectors
    ]
    for ef in EFS:
        answers = [ask_dedicated(connection, table, str(vector.tolist()), ef)[0] for vector in vectors]
        alone = mean(len(truth & rows) / len(truth) for truth, rows in zip(truths, answers, strict=True))
        if alone >= found:
            break
    shared: list[float] = []
    own: list[float] = []
    for vector in [*vectors, *vectors]:  # in turn
        query = str(vector.tolist())
        shared.append(seconds(connection, _IDS, [CONFIG.index.name, FULL, query, Jsonb({})]))
        own.append(ask_dedicated(connection, table, query, ef)[1])
    report.add(f"version {FULL} in a table of its own: recall@{K} at ef {ef}", alone)
    report.add_milliseconds(f"version {FULL} in a table of its own", own, tail=95)
    report.add_milliseconds(f"version {FULL} among others", shared, tail=95, bar="< 10")
    report.add(f"version {FULL} among others: p50 against its own table", median(shared) / median(own), "", "<= 1.35")
