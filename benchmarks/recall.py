"""Search on 10^5 chunks in ten versions (see `growing.py`): how much it finds, how fast, and whether it stays the same.

Truth for dense search is `exact=True`; for lexical search BM25 from its formula (`bm25.py`). Latencies are those of
the server (planning and execution of one statement), beside a table that holds only the version and has an HNSW index
of its own, at the same ef. Every query goes to all of them in turn.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import mean
from typing import Any

import numpy as np
from psycopg import sql

from benchmarks.bm25 import Postings, agrees
from benchmarks.growing import DIMENSION, FULL_VERSIONS, MORE_VERSIONS, WORDS, Growing, make_growing
from benchmarks.report import Options, Report
from benchmarks.synthetic import build_version
from benchmarks.workspaces import config_of, fresh_workspace, say
from pipelines import index
from pipelines.index.catalog import get_index, use_schema
from pipelines.index.db import Connection

K = 10
EF = 100  # what default search uses in a graph of this size
FULL, NARROW, OLD = FULL_VERSIONS, FULL_VERSIONS + 1, 5
CONFIG = config_of(index={"name": "growing", "average_terms": WORDS}, embed={"model": f"hash:{DIMENSION}"})

Ask = Callable[..., index.Result]


def measure(options: Options) -> Report:
    documents, queries = (2000, 60) if options.quick else (10_000, 300)
    with fresh_workspace() as workspace:
        growing = make_growing(workspace, CONFIG, documents, queries)
        url = index.database_url(workspace)
        report = Report(
            "recall",
            f"{documents * 10:,} chunks x {DIMENSION} in ten versions, {queries} queries, k {K};"
            f" full: {growing.live(FULL).sum():,} chunks, narrow: {growing.live(NARROW).sum():,}",
        )
        for version in range(1, NARROW + 1):
            began = time.perf_counter()
            built = build_version(workspace, CONFIG, growing.rows(version))
            assert built.version == version
            say(f"recall: version {version}: {time.perf_counter() - began:.1f} s")
            if version in (1, 2, NARROW):
                report.add(f"build of version {version}", time.perf_counter() - began, "s")
        index.publish(partial(index.connect, url), CONFIG.index.name, FULL, epoch=built.epoch)
        with index.connect(url) as connection:
            for name, version, bar in (("full", FULL, ">= 0.93"), ("narrow", NARROW, ">= 0.95")):
                _dense(report, connection, growing, name, version, bar)
                say(f"recall: {name}: dense done")
                _lexical(report, connection, growing, name, version, queries)
            before = _exact_answers(connection, growing)
        for version in range(NARROW + 1, NARROW + 1 + MORE_VERSIONS):
            built = build_version(workspace, CONFIG, growing.rows(version))
            index.publish(partial(index.connect, url), CONFIG.index.name, built.version, epoch=built.epoch)
        index.rollback(partial(index.connect, url), CONFIG.index.name)
        with index.connect(url) as connection:
            after = _exact_answers(connection, growing)
        report.add(
            f"exact answers of version {OLD} that {MORE_VERSIONS} more versions changed", before != after, "", "== 0"
        )
    return report


# -- dense -------------------------------------------------------------------------------------------------------------


def _dense(report: Report, connection: Connection, growing: Growing, name: str, version: int, bar: str) -> None:
    table = dedicated_table(connection, growing, version)
    ids = chunk_ids(connection)
    found: dict[str, list[float]] = {"near": [], "hard": []}
    dedicated: list[float] = []
    taken: dict[str, list[float]] = {"search": [], "hits": [], "dedicated": []}
    for kind, vectors in (("near", growing.near), ("hard", growing.hard)):
        for vector in vectors:
            query = str(vector.tolist())
            ask = partial(
                index.search, connection, CONFIG.index.name, "", vector=vector.tolist(), k=K, mode="dense", at=version
            )
            truth = {ids[hit.chunk] for hit in ask(exact=True).hits}
            found[kind].append(len(truth & {ids[hit.chunk] for hit in ask().hits}) / K)
            taken["search"].append(seconds(connection, _SEARCH, [CONFIG.index.name, query, version]))
            taken["hits"].append(seconds(connection, _IDS, [CONFIG.index.name, version, query]))
            rows, spent = ask_dedicated(connection, table, query, EF)
            taken["dedicated"].append(spent)
            dedicated.append(len(truth & rows) / K)
    report.add(f"{name}: recall@{K}", mean(found["near"] + found["hard"]), "", bar)
    for kind, values in found.items():
        report.add(f"{name}: recall@{K} of {len(values)} {kind} queries", mean(values))
    report.add(f"{name}: recall@{K} on a dedicated table", mean(dedicated))
    report.add_milliseconds(f"{name}: dense search", taken["search"], tail=95)
    report.add_milliseconds(f"{name}: dense, ids only", taken["hits"], tail=95)
    report.add_milliseconds(f"{name}: dedicated table, ids only", taken["dedicated"], tail=95)


_SEARCH = "SELECT * FROM snapdex.search(%s, %s::vector, 10, '{}', %s)"
_LEXICAL = "SELECT * FROM snapdex.search_lexical(%s, %s, 10, '{}', %s)"
_IDS = "SELECT * FROM snapdex._dense(snapdex._resolve(%s, %s), %s::vector, 10, '{}', false)"


def seconds(connection: Connection, statement: str, parameters: Sequence[Any]) -> float:
    """Planning and execution in the server."""
    explained = connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}".encode(), parameters)
    row = explained.fetchone()
    assert row is not None
    return float(row[0][0]["Planning Time"] + row[0][0]["Execution Time"]) / 1000


def dedicated_table(connection: Connection, growing: Growing, version: int) -> sql.Identifier:
    """A table with the vectors of one version and nothing else, and its graph."""
    row = get_index(connection, CONFIG.index.name)
    table = sql.Identifier("public", f"dedicated_{version}")
    with connection.transaction():
        use_schema(connection, row)
        space = connection.execute("SELECT max(id) FROM snapdex.embedding_space").fetchone()
        assert space is not None
        connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
        connection.execute(
            sql.SQL(
                "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} AS"
                " SELECT x.chunk_id, x.embedding FROM {vectors} x WHERE x.chunk_id IN ("
                " SELECT o.chunk_id FROM membership m JOIN occurrence o USING (revision_id)"
                " WHERE m.from_version <= {version} AND m.to_version > {version});"
                " CREATE INDEX ON {table} USING hnsw (embedding halfvec_cosine_ops); ANALYZE {table}"
            ).format(table=table, vectors=sql.Identifier(f"vectors_{space[0]}"), version=sql.Literal(version))
        )
    counted = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    assert counted == (growing.live(version).sum(),)
    return table


def ask_dedicated(connection: Connection, table: sql.Identifier, query: str, ef: int) -> tuple[set[int], float]:
    statement = sql.SQL("SELECT chunk_id FROM {} ORDER BY embedding <=> %s::halfvec LIMIT {}").format(table, K)
    with connection.transaction():
        connection.execute(f"SET LOCAL hnsw.ef_search = {ef}".encode())
        spent = seconds(connection, statement.as_string(connection), [query])
        return {int(i) for (i,) in connection.execute(statement, [query])}, spent


def chunk_ids(connection: Connection) -> dict[str, int]:
    with connection.transaction():
        use_schema(connection, get_index(connection, CONFIG.index.name))
        return {str(key): int(i) for key, i in connection.execute("SELECT encode(key, 'hex'), id FROM chunk")}


# -- lexical -----------------------------------------------------------------------------------------------------------


def _lexical(report: Report, connection: Connection, growing: Growing, name: str, version: int, queries: int) -> None:
    live = growing.live(version)
    postings = Postings.of(growing.texts, WORDS)
    number = {key: place for place, key in enumerate(growing.content.chunks)}
    equal, taken = 0, []
    for query in _word_queries(growing, live, queries):
        hits = index.search(connection, CONFIG.index.name, query, vector=None, k=K, mode="lexical", at=version).hits
        equal += agrees([(number[hit.chunk], hit.score) for hit in hits], postings.scores(query, live), K)
        taken.append(seconds(connection, _LEXICAL, [CONFIG.index.name, query, version]))
    report.add(f"{name}: lexical answers equal to BM25", equal, f"of {queries}", f"== {queries}")
    report.add_milliseconds(f"{name}: lexical search, 2 to 8 words", taken, tail=95)


def _word_queries(growing: Growing, live: np.ndarray, count: int) -> list[str]:
    """Some words of one live chunk each, so common ones and rare ones together."""
    generator = np.random.default_rng(5)
    chosen = generator.choice(np.flatnonzero(live), count)
    sizes = generator.integers(2, 9, size=count)
    return [
        " ".join(generator.choice(growing.texts[chunk].split(), size, replace=False))
        for chunk, size in zip(chosen.tolist(), sizes.tolist(), strict=True)
    ]


# -- drift -------------------------------------------------------------------------------------------------------------


def _exact_answers(connection: Connection, growing: Growing, queries: int = 20) -> list[dict[str, Any]]:
    """What version 5 answers, with scores, places and texts."""
    texts = _word_queries(growing, growing.live(OLD), queries)
    return [
        index.search(
            connection,
            CONFIG.index.name,
            text,
            vector=vector.tolist(),
            k=K,
            mode=mode,
            at=OLD,
            exact=True,
        ).to_json()
        for text, vector in zip(texts, growing.hard[:queries], strict=True)
        for mode in ("dense", "lexical", "hybrid")
    ]
