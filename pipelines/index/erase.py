"""Erase documents from an index: from every version, whatever retains it, in one transaction.

A version keeps its snapshot id: the leaf of an erased document stays, under the hash of its name, and counts as a
document. Statistics of lexical search are set to those of what is left.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pipelines.erased import document_hash
from pipelines.failpoints import failpoint
from pipelines.index.catalog import Index, use_schema
from pipelines.index.db import Connection
from pipelines.index.prune import drop_repeated_frequencies
from pipelines.index.publish import actor
from pipelines.index.retention import lock, note
from pipelines.index.retrievals import erase_names, naming


@dataclass(frozen=True)
class Held:
    """One revision of a document, as the index has it."""

    document: str
    content_sha256: str
    leaf: bytes


@dataclass(frozen=True)
class Rows:
    """How many rows were deleted, or would be, and what they were part of."""

    versions: list[int]
    documents: int
    chunks: int
    shared_chunks: int  # of erased documents, and of others too: these stay
    searches: int  # of the retrieval log: they lose the name


def held(connection: Connection, index: Index, documents: Collection[str]) -> list[Held]:
    """Everything that these documents ever were, in versions that are forgotten and not yet pruned too."""
    with connection.transaction():
        use_schema(connection, index)
        found = connection.execute(
            "SELECT DISTINCT m.document, encode(r.content_sha256, 'hex'), m.leaf FROM membership m"
            " JOIN revision r ON r.id = m.revision_id WHERE m.document = ANY(%s)",
            [list(documents)],
        ).fetchall()
    return [Held(document, content, bytes(leaf)) for document, content, leaf in found]


def holders(connection: Connection, index: Index, contents: Collection[str]) -> set[str]:
    """The documents that ever had one of these contents, and those in quarantine with one."""
    keys = [bytes.fromhex(content) for content in contents]
    with connection.transaction():
        use_schema(connection, index)
        found = connection.execute(
            "SELECT m.document FROM membership m JOIN revision r ON r.id = m.revision_id"
            " WHERE r.content_sha256 = ANY(%s)"
            " UNION SELECT document FROM quarantine WHERE content_sha256 = ANY(%s)",
            [keys, list(contents)],
        ).fetchall()
    return {document for (document,) in found}


def documents_of_hashes(connection: Connection, index: Index, hashes: Collection[str]) -> set[str]:
    """The documents whose names have these hashes and still stand somewhere."""
    with connection.transaction():
        use_schema(connection, index)
        found = connection.execute(
            "SELECT document FROM (SELECT document FROM membership WHERE revision_id <> 0"
            " UNION SELECT document FROM quarantine) x"
            " WHERE encode(sha256(convert_to(document, 'UTF8')), 'hex') = ANY(%s)",
            [list(hashes)],
        ).fetchall()
    return {document for (document,) in found}


def revisions(connection: Connection, index: Index) -> list[tuple[str, str, bytes]]:
    """(content hash, media type, key) of every revision that the index has."""
    with connection.transaction():
        use_schema(connection, index)
        found = connection.execute("SELECT encode(content_sha256, 'hex'), media_type, key FROM revision").fetchall()
    return [(content, media_type, bytes(key)) for content, media_type, key in found]


def recipes(connection: Connection, index: Index) -> set[str]:
    found = connection.execute("SELECT DISTINCT recipe FROM snapdex.version WHERE index_id = %s", [index.id]).fetchall()
    return {recipe for (recipe,) in found}


def chunk_keys(connection: Connection, index: Index, contents: Collection[str]) -> set[bytes]:
    """The chunks of these contents, shared ones too."""
    with connection.transaction():
        use_schema(connection, index)
        found = connection.execute(
            "SELECT DISTINCT c.key FROM revision r JOIN occurrence o ON o.revision_id = r.id"
            " JOIN chunk c ON c.id = o.chunk_id WHERE r.content_sha256 = ANY(%s)",
            [[bytes.fromhex(content) for content in contents]],
        ).fetchall()
    return {bytes(key) for (key,) in found}


def shared_chunk_keys(
    connection: Connection, index: Index, keys: Collection[bytes], contents: Collection[str]
) -> set[bytes]:
    """Those of these chunks that a revision of another content has, too."""
    with connection.transaction():
        use_schema(connection, index)
        found = connection.execute(
            "SELECT DISTINCT c.key FROM chunk c JOIN occurrence o ON o.chunk_id = c.id"
            " JOIN revision r ON r.id = o.revision_id WHERE c.key = ANY(%s) AND r.content_sha256 <> ALL(%s)",
            [list(keys), [bytes.fromhex(content) for content in contents]],
        ).fetchall()
    return {bytes(key) for (key,) in found}


def survey(connection: Connection, index: Index, documents: Collection[str], contents: Collection[str]) -> Rows:
    """What `erase` would delete now; versions are counted also where the document is gone from them already."""
    names = [*documents, *(f"erased:{document_hash(document)}" for document in documents)]
    with connection.transaction():
        use_schema(connection, index)
        versions = connection.execute(
            "SELECT DISTINCT v.number FROM snapdex.version v JOIN membership m ON m.from_version <= v.number"
            " AND m.to_version > v.number WHERE v.index_id = %s AND m.document = ANY(%s) ORDER BY 1",
            [index.id, names],
        ).fetchall()
        counted = connection.execute(
            """
            WITH gone AS (SELECT id FROM revision WHERE content_sha256 = ANY(%(contents)s)),
            chunks AS (SELECT DISTINCT chunk_id FROM occurrence WHERE revision_id IN (SELECT id FROM gone))
            SELECT (SELECT count(DISTINCT document) FROM membership WHERE document = ANY(%(documents)s)),
                   count(*) FILTER (WHERE NOT shared), count(*) FILTER (WHERE shared)
            FROM (SELECT EXISTS (SELECT FROM occurrence o WHERE o.chunk_id = c.chunk_id
                                 AND o.revision_id NOT IN (SELECT id FROM gone)) AS shared FROM chunks c) x
            """,
            {"contents": [bytes.fromhex(content) for content in contents], "documents": list(documents)},
        ).fetchone()
    assert counted is not None
    named, own, shared = map(int, counted)
    searches = naming(connection, index, documents)
    return Rows([number for (number,) in versions], named, own, shared, searches)


def erase(connection: Connection, index: Index, documents: Collection[str], contents: Collection[str]) -> int:
    """Take the documents out of all versions, and what is then left of these contents out of all tables.

    Under the index row's lock, wholly or not at all; done twice it is done once. Returns how many rows of content
    were deleted. The caller has made sure that no other document has one of the contents.
    """
    values: dict[str, Any] = {
        "index": index.id,
        "documents": list(documents),
        "names": [f"erased:{document_hash(document)}" for document in documents],
        "contents": [bytes.fromhex(content) for content in contents],
        "hashes": list(contents),
        "actor": actor(),
    }
    with connection.transaction():
        lock(connection, index)
        use_schema(connection, index)
        connection.execute("SET LOCAL work_mem = '64MB'")
        connection.execute(
            "CREATE TEMP TABLE gone ON COMMIT DROP AS SELECT id FROM revision WHERE content_sha256 = ANY(%(contents)s)"
            " UNION SELECT revision_id FROM membership WHERE document = ANY(%(documents)s)",
            values,
        )
        for when in ("before", "after"):
            if when == "after":
                done = _take_names(connection, values)
            connection.execute(_REACH.format(when=when).encode(), values)
        _correct_statistics(connection, values)
        deleted = _delete(connection, index, values)
        _scrub_reports(connection, index, documents)
        done += erase_names(connection, index, documents)
        if done or deleted:
            hashes = sorted(name.removeprefix("erased:") for name in values["names"])
            note(connection, index, "erase", {"document_sha256": hashes, "rows": deleted})
        failpoint("erase.before_commit")
    return deleted


_REACH = """
    CREATE TEMP TABLE {when} ON COMMIT DROP AS
        SELECT DISTINCT o.chunk_id, v.number
        FROM (SELECT DISTINCT chunk_id FROM occurrence WHERE revision_id IN (SELECT id FROM gone)) c
        JOIN occurrence o USING (chunk_id) JOIN membership m USING (revision_id)
        JOIN snapdex.version v ON v.index_id = %(index)s AND v.number >= m.from_version AND v.number < m.to_version
"""


def _take_names(connection: Connection, values: dict[str, Any]) -> int:
    connection.execute(
        "INSERT INTO snapdex.erasure (index_id, document_sha256, leaf, actor)"
        " SELECT DISTINCT %(index)s, encode(sha256(convert_to(document, 'UTF8')), 'hex'), leaf, %(actor)s"
        " FROM membership WHERE document = ANY(%(documents)s) ORDER BY 2, 3 ON CONFLICT DO NOTHING",
        values,
    )
    return connection.execute(
        "UPDATE membership SET document = 'erased:' || encode(sha256(convert_to(document, 'UTF8')), 'hex'),"
        " revision_id = 0 WHERE document = ANY(%(documents)s)",
        values,
    ).rowcount


def _correct_statistics(connection: Connection, values: dict[str, Any]) -> None:
    """What a version lost of chunks is subtracted at it; a term that lost some gets its count at each version anew."""
    connection.execute(
        "CREATE TEMP TABLE lost ON COMMIT DROP AS TABLE before EXCEPT TABLE after; ANALYZE lost",
    )
    connection.execute(
        """
        WITH loss AS (
            SELECT term, number, count(*)::int AS n FROM lost JOIN lexical USING (chunk_id), unnest(terms) AS term
            GROUP BY 1, 2),
        series AS (
            SELECT t.term, v.number, coalesce(l.n, 0) AS n FROM (SELECT DISTINCT term FROM loss) t
            CROSS JOIN (SELECT number FROM snapdex.version WHERE index_id = %(index)s) v
            LEFT JOIN loss l USING (term, number))
        INSERT INTO document_frequency (term, version, chunks)
            SELECT s.term, s.number, f.chunks - s.n FROM series s CROSS JOIN LATERAL (
                SELECT f.chunks FROM document_frequency f WHERE f.term = s.term AND f.version <= s.number
                ORDER BY f.version DESC LIMIT 1) f
            ORDER BY 1, 2
        ON CONFLICT (term, version) DO UPDATE SET chunks = excluded.chunks
        """,
        values,
    )
    drop_repeated_frequencies(connection)
    connection.execute(
        "UPDATE snapdex.version v SET chunks = v.chunks - l.n"
        " FROM (SELECT number, count(*) AS n FROM lost GROUP BY 1) l"
        " WHERE v.index_id = %(index)s AND v.number = l.number",
        values,
    )


def _delete(connection: Connection, index: Index, values: dict[str, Any]) -> int:
    """Remove the content; with it what an interrupted prune left without a revision, which may be of these too."""
    no_chunk = "NOT EXISTS (SELECT FROM chunk c WHERE c.id = x.chunk_id)"
    dead = {
        "revision": "x.id IN (SELECT id FROM gone)"
        " AND NOT EXISTS (SELECT FROM membership m WHERE m.revision_id = x.id)",
        "occurrence": "NOT EXISTS (SELECT FROM revision r WHERE r.id = x.revision_id)",
        "chunk": "NOT EXISTS (SELECT FROM occurrence o WHERE o.chunk_id = x.id)",
        "lexical": no_chunk,
        **dict.fromkeys(vector_tables(connection, index), no_chunk),
        "quarantine": "x.document = ANY(%(documents)s) OR x.content_sha256 = ANY(%(hashes)s)",
    }
    deleted = 0
    for table, condition in dead.items():
        statement = sql.SQL(f"DELETE FROM {{}} x WHERE {condition}").format(sql.Identifier(table))
        deleted += connection.execute(statement, values).rowcount
    return deleted


def vector_tables(connection: Connection, index: Index) -> list[str]:
    """Of all spaces that this index ever used."""
    found = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename ~ '^vectors_[0-9]+$' ORDER BY 1",
        [index.schema],
    ).fetchall()
    return [str(table) for (table,) in found]


def _scrub_reports(connection: Connection, index: Index, documents: Collection[str]) -> None:
    """What runs reported of these documents loses the name and the details, and keeps the counts."""
    names = {document: f"erased:{document_hash(document)}" for document in documents}
    rows = connection.execute("SELECT number, report FROM snapdex.version WHERE index_id = %s", [index.id]).fetchall()
    for number, report in rows:
        clean = _without(report, names)
        if clean != report:
            connection.execute(
                "UPDATE snapdex.version SET report = %s WHERE index_id = %s AND number = %s",
                [Jsonb(clean), index.id, number],
            )


def _without(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        erased = value.get("document") in names if isinstance(value.get("document"), str) else False
        kept = {"document", "reason"} if erased else value.keys()
        return {names.get(key, key): _without(each, names) for key, each in value.items() if key in kept}
    if isinstance(value, list):
        return [_without(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value
