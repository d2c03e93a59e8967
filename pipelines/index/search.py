"""Search: one statement against one version, hits with their lineage."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, overload

import psycopg
import yaml
from pgvector import Vector
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pipelines.errors import InputError
from pipelines.index.db import Connection, translated_errors


@dataclass(frozen=True)
class Hit:
    """A chunk that was found, and everything that leads from it back to its source.

    An expanded hit is the text around its best chunk, from `start` to `end`; `chunk` still names that chunk.
    """

    rank: int
    score: float
    document: str
    content_sha256: str
    revision: str
    chunk: str
    text: str
    section: list[str]
    page: int | None
    start: int
    end: int
    parent: tuple[int, int]  # the section around it, as a range of the same text
    also_in: list[str]  # other documents that hold the same chunk
    similar: list[str]  # documents of hits that were left out because they say nearly the same
    metadata: dict[str, Any]

    @property
    def passage(self) -> str:
        """The text under the path of its section, as a model that reads passages is shown it."""
        return "\n".join(filter(None, [" > ".join(self.section), self.text]))


@dataclass(frozen=True)
class Result:
    """The hits of a query, best first, and what they were found in; it can be read as the list of them.

    `abstained` says that the version has nothing relevant, whatever the hits are.
    """

    index: str
    version: int
    snapshot: str
    query: str
    mode: str
    abstained: bool
    hits: list[Hit]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, place: int) -> Hit: ...
    @overload
    def __getitem__(self, place: slice) -> list[Hit]: ...
    def __getitem__(self, place: int | slice) -> Hit | list[Hit]:
        return self.hits[place]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lineage(self, hit: Hit) -> dict[str, Any]:
        """Everything about a hit but its text, for programs that take a text and facts about it."""
        of_hit = ("document", "section", "page", "chunk", "start", "end", "score", "content_sha256", "metadata")
        about = {"index": self.index, "version": self.version, "snapshot": self.snapshot}
        return {name: getattr(hit, name) for name in of_hit} | about


def search(
    connection: Connection,
    index: str,
    query: str,
    *,
    vector: Sequence[float] | None,
    k: int = 10,
    mode: str = "hybrid",
    at: int | None = None,
    filter: Mapping[str, Any] | None = None,
    dense_weight: float = 0.5,
    exact: bool = False,
    fusion: str = "convex",
    mmr_lambda: float = 1.0,
    collapse: float = 1.0,
    expand: str = "chunk",
) -> Result:
    """The k best chunks of the active version, or of version `at`.

    `vector`: the embedded query, float32 [d]; None in lexical mode. `filter`: metadata that a revision must have;
    the key `document` is a path pattern in which `*` stands for anything. `exact`: compute every distance instead of
    walking the graph. Scores: cosine similarity (dense), BM25 (lexical), and in hybrid mode their `fusion`: the sum of
    both scaled to 0..1 (`convex`), or of their reciprocal ranks (`rrf`, which has no weight).

    `mmr_lambda`: share of relevance, and not of distance to better hits, in what decides which hits are returned and in
    which order (maximal marginal relevance). `collapse`: hits with at least this cosine similarity to a better one are
    left out, and named by it. `expand`: return the `section` around a chunk, or its `neighbours`, instead of the
    `chunk`. Their defaults change nothing.

    Raises `NotFoundError` for an index without such a version.
    """
    query = plain(query)
    with _refused_input(), translated_errors(), connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "WITH v AS MATERIALIZED (SELECT (snapdex._resolve(%(index)s, %(at)s)).*)"
            " SELECT v.number, v.snapshot AS of_snapshot, h.* FROM v"
            " LEFT JOIN LATERAL snapdex.retrieve(%(index)s, %(mode)s, %(vector)s, %(query)s, %(k)s, %(filter)s,"
            " v.number, %(weight)s, %(exact)s, %(fusion)s, %(mmr_lambda)s, %(collapse)s, %(expand)s) h ON true"
            " ORDER BY h.rank",
            {
                "index": index,
                "mode": mode,
                "vector": None if vector is None else Vector(list(vector)).to_text(),
                "query": query,
                "k": k,
                "filter": Jsonb(dict(filter or {})),
                "at": at,
                "weight": dense_weight,
                "exact": exact,
                "fusion": fusion,
                "mmr_lambda": mmr_lambda,
                "collapse": collapse,
                "expand": expand,
            },
        ).fetchall()
    hits = [_hit(row) for row in rows if row["rank"] is not None]
    abstained = not hits or bool(rows[0]["abstained"])
    return Result(index, rows[0]["number"], rows[0]["of_snapshot"], query, mode, abstained, hits)


def coverage(connection: Connection, index: str, query: str, *, at: int) -> float:
    """The share of the query's weight in words that one chunk of version `at` has: 0 to 1."""
    row = connection.execute("SELECT snapdex.coverage(%s, %s, '{}', %s)", [index, query, at]).fetchone()
    assert row is not None
    return float(row[0])


def plain(query: str) -> str:
    """The query without what Postgres text cannot hold: NUL and lone surrogates, which match nothing anyway."""
    return query.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def filters_of(texts: Iterable[str]) -> dict[str, Any]:
    """A filter that is written as several `KEY=VALUE`. Raises `InputError` where a key comes twice."""
    found: dict[str, Any] = {}
    for text in texts:
        key, value = filter_of(text)
        if key in found:
            raise InputError(f"has {key[:100]!r} twice, and all must hold at once", hint="leave one out")
        found[key] = value
    return found


def filter_of(text: str) -> tuple[str, Any]:
    """Key and value of a filter that is written `KEY=VALUE`: numbers and booleans as YAML has them, else text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"{text[:100]!r} is not KEY=VALUE", hint="example: document=policies/*")
    try:
        parsed = yaml.safe_load(value) if key != "document" else value
    except (yaml.YAMLError, ValueError, RecursionError):
        parsed = value  # a text that YAML reads as something unfinished, impossible or too deep
    return key, parsed if isinstance(parsed, str | int | float | bool) else value


@contextmanager
def _refused_input() -> Iterator[None]:
    try:
        yield
    except psycopg.DataError as error:
        detail = " ".join(str(error).split())
        raise InputError(
            f"the query or its filter cannot be used: {detail}", hint="see `snapdex search --help`"
        ) from error


def _hit(row: Mapping[str, Any]) -> Hit:
    same = ("rank", "score", "document", "content_sha256", "revision", "chunk", "text", "section", "page", "metadata")
    return Hit(
        **{name: row[name] for name in same},
        start=row["start_at"],
        end=row["end_at"],
        parent=(row["parent_start"], row["parent_end"]),
        also_in=row["also_in"],
        similar=row["similar"],
    )
