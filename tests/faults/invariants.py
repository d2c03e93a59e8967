"""I1-I9 of the design, checked against a model after each step.

I1  the active version verifies: its snapshot id, recomputed from its rows
I2  every acknowledged move of the pointer is in the log, in order, and one that was not is there whole or not at all
I3  a sealed version keeps its snapshot id and its documents; a number never means two things
I4  a revision, a chunk, a vector are there once; the ranges of a document's revisions do not overlap
I5  what a search answers belongs to one version
I6  every version that is left has all its rows
I7  every document is in one state; the counts of manifests, report and rows agree
I8  running again ends where an undisturbed run ends (`contents` of both are equal)
I9  a version answers an exact search with the ids and scores that it gave when it was seen first
"""

from typing import Any

from pipelines.chunk.revision import make_revision
from pipelines.index import search
from pipelines.index.catalog import OPEN, Index, Version, find_index, versions
from pipelines.index.db import Connection
from pipelines.index.history import documents_of
from pipelines.index.publish import moves
from pipelines.index.retention import pins
from pipelines.index.verify import verify
from pipelines.manifests import read_chunks, read_documents, read_elements, read_space
from pipelines.media import MARKDOWN
from pipelines.model import leaf, snapshot_id
from pipelines.models import load_tokenizer, resolve_model
from pipelines.parse.document import parse_bytes
from tests.faults.model import Documents, Model, Move
from tests.index.state import State, sha256

QUERY = "rolling back a version that readers see"


class Witness:
    """Remembers what was seen of each version, and checks that it stays so."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.checks = 0
        self._tokenizer = load_tokenizer(resolve_model(state.config.embed, state.workspace))
        self._vector = state.vector(QUERY)
        self._leaves: dict[tuple[str, str], bytes] = {}
        self._snapshots: dict[int, str] = {}
        self._answers: dict[tuple[str, str], list[tuple[str, str, float]]] = {}

    def check(self, *possible: Model) -> Model:
        """The one of these models that the index is; raises `AssertionError` where it is none, or is not whole."""
        self.checks += 1
        with self.state.connect() as connection:
            index = find_index(connection, self.state.name)
            found = versions(connection, index) if index else []
            model = self._which(connection, index, found, possible)
            if index is None:
                return model
            _check_rows(connection, index)
            for version in found:
                self._check_version(connection, index, version, model.versions[version.number])
        return model

    def _which(
        self, connection: Connection, index: Index | None, found: list[Version], possible: tuple[Model, ...]
    ) -> Model:
        logged = moves(connection, index.name)[::-1] if index else []
        seen = {
            "versions": sorted(version.number for version in found),
            "moves": [Move(each.kind, each.version) for each in logged],
            "active": index.active_version if index else None,
            "tags": {name: version.number for version in found for name in version.tags},
            "pins": pins(connection, index) if index else set(),
        }
        fitting = [model for model in possible if _facts(model) == seen]
        assert fitting, f"the index is {seen}, and not one of {[_facts(model) for model in possible]}"
        if index:
            assert [each.epoch for each in logged] == list(range(1, index.epoch + 1))
            assert [each.previous for each in logged] == [None, *(each.version for each in logged)][: len(logged)]
            assert index.last_version >= max(self._snapshots, default=0)
        return fitting[0]

    def _check_version(self, connection: Connection, index: Index, version: Version, documents: Documents) -> None:
        number = version.number
        assert version.snapshot == self._snapshots.setdefault(number, version.snapshot), f"v{number} (I3)"
        assert version.snapshot == self.snapshot(documents), f"v{number} is not what its documents make (I3)"
        actual = {each.uri: each.content_sha256 for each in documents_of(connection, index, version)}
        assert actual == {uri: sha256(text) for uri, text in documents.items()}, f"v{number} (I3)"
        _, problems = verify(connection, index, version)
        assert problems == [], f"v{number} (I1, I6)"
        total = version.report.get("documents", {}).get("total", version.documents)
        assert (total, version.documents) == (len(documents), len(documents)), f"v{number} (I7)"
        for mode in ("dense", "lexical", "hybrid"):
            result = search(
                connection, index.name, QUERY, vector=self._vector, mode=mode, at=number, exact=True, k=1000
            )
            assert (result.version, result.snapshot) == (number, version.snapshot), f"v{number} (I5)"
            answer = [(hit.document, hit.chunk, hit.score) for hit in result.hits]
            assert mode != "dense" or len(answer) == version.chunks, f"v{number} (I5)"
            assert all(hit.text in documents[hit.document] for hit in result.hits), f"v{number} (I5)"
            assert self._answers.setdefault((version.snapshot, mode), answer) == answer, f"v{number} {mode} (I9)"

    def snapshot(self, documents: Documents) -> str:
        """Computed from the texts alone: no store, no manifest row, no table."""
        workspace, config = self.state.workspace, self.state.config
        for uri, text in documents.items():
            if (uri, text) not in self._leaves:
                parsed = parse_bytes(text.encode(), MARKDOWN, config.parse)
                revision = make_revision(parsed, config.chunk, self._tokenizer)
                self._leaves[uri, text] = leaf(uri, sha256(text), revision.chunks_sha256)
        recipe = read_chunks(workspace, config.index.name)[0]
        space = read_space(workspace, config.index.name)["space"]
        return snapshot_id(recipe, space, [self._leaves[each] for each in documents.items()])


def _facts(model: Model) -> dict[str, Any]:
    return {
        "versions": sorted(model.versions),
        "moves": list(model.moves),
        "active": model.active,
        "tags": dict(model.tags),
        "pins": set(model.pins),
    }


_LIVE = "SELECT v.number, o.chunk_id FROM version v JOIN membership m ON v.number >= m.from_version AND"
_LIVE += " v.number < m.to_version JOIN occurrence o USING (revision_id) GROUP BY 1, 2"
_WRONG = {  # what must have no row, over all versions that are left
    "ranges that overlap (I4)": "SELECT a.document FROM membership a JOIN membership b USING (document)"
    " WHERE a.from_version < b.from_version AND a.to_version > b.from_version",
    "empty ranges (I4)": "SELECT document FROM membership WHERE from_version >= to_version",
    "revisions twice (I4)": "SELECT key FROM revision GROUP BY key HAVING count(*) > 1",
    "versions that end before the newest (I3)": f"SELECT document FROM membership WHERE to_version <> {OPEN}"
    " AND to_version > (SELECT last_version FROM snapdex.index i WHERE i.id = {index})",
    "open rows of no version (I2)": "SELECT document FROM membership"
    f" WHERE to_version = {OPEN} AND from_version > coalesce((SELECT max(number) FROM version), 0)",
    "members without a revision (I6)": "SELECT m.document FROM version v JOIN membership m ON"
    " v.number >= m.from_version AND v.number < m.to_version LEFT JOIN revision r ON r.id = m.revision_id"
    " WHERE r.id IS NULL",
    "frequencies that are not what the rows say (I9)": f"""
        WITH live AS ({_LIVE}), counted AS (
            SELECT l.number, t.term, count(*) AS n FROM live l JOIN lexical x USING (chunk_id), unnest(x.terms) t(term)
            GROUP BY 1, 2), stated AS (
            SELECT number, term, n FROM (
                SELECT DISTINCT ON (v.number, f.term) v.number, f.term, f.chunks AS n FROM version v
                JOIN document_frequency f ON f.version <= v.number ORDER BY 1, 2, f.version DESC) x WHERE n <> 0)
        (TABLE counted EXCEPT TABLE stated) UNION ALL (TABLE stated EXCEPT TABLE counted)""",
    "chunks of the newest version that lexical search passes over (I9)": "SELECT chunk_id FROM lexical JOIN"
    f" occurrence USING (chunk_id) JOIN membership USING (revision_id) WHERE to_version = {OPEN} AND NOT current",
    "invalid indexes that are in use": "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid"
    " WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace AND relname !~ '_cc(new|old)[0-9]*$'",
}


def _check_rows(connection: Connection, index: Index) -> None:
    with connection.transaction():
        connection.execute(f"SET LOCAL search_path = {index.schema}, public".encode())
        version = f"WITH version AS (SELECT number FROM snapdex.version WHERE index_id = {index.id})"
        for name, statement in _WRONG.items():
            statement = f"{version} SELECT * FROM ({statement.replace('{index}', str(index.id))}) wrong LIMIT 5"
            assert connection.execute(statement.encode()).fetchall() == [], name


def check_balance(state: State) -> None:
    """I7 of a workspace in which a run has ended: each document is in one state, from manifest to manifest."""
    workspace, name = state.workspace, state.name
    documents = {each.uri for each in read_documents(workspace, name)}
    elements = read_elements(workspace, name)[1]
    indexed = {row.uri for row in read_chunks(workspace, name)[1]}
    assert {row.uri for row in elements} == documents
    assert indexed == {row.uri for row in elements if row.state != "quarantined"}
    quarantined = {row.uri for row in elements if row.quarantined}
    assert {uri for (uri,) in state.execute("SELECT document FROM quarantine")} == quarantined


# -- whole states, to compare ------------------------------------------------------------------------------------------

_CONTENTS = {  # what versions reach, without serial ids and times; {space} is a table of vectors
    "versions": "SELECT number, snapshot, parent, recipe, documents, chunks, number = i.active_version"
    " FROM snapdex.version v JOIN snapdex.index i ON i.id = v.index_id WHERE i.name = {name}",
    "moves": "SELECT o.kind, o.version, o.previous, o.epoch FROM snapdex.operation o"
    " JOIN snapdex.index i ON i.id = o.index_id WHERE i.name = {name}",
    "last": "SELECT epoch, last_version, active_version FROM snapdex.index WHERE name = {name}",
    "pins": "SELECT p.version FROM snapdex.pin p JOIN snapdex.index i ON i.id = p.index_id WHERE i.name = {name}",
    "tags": "SELECT t.name, t.version FROM snapdex.tag t JOIN snapdex.index i ON i.id = t.index_id"
    " WHERE i.name = {name}",
    "members": "SELECT v.number, m.document, m.leaf, r.key, r.chunks, o.ordinal, c.key, c.text, o.section, o.start_at,"
    " o.end_at, l.terms, l.weights::text FROM snapdex.version v JOIN snapdex.index i ON i.id = v.index_id AND i.name ="
    " {name} JOIN membership m ON v.number >= m.from_version AND v.number < m.to_version"
    " JOIN revision r ON r.id = m.revision_id JOIN occurrence o ON o.revision_id = r.id JOIN chunk c ON c.id ="
    " o.chunk_id JOIN lexical l ON l.chunk_id = c.id",
}
TABLES = ("membership", "revision", "occurrence", "chunk", "lexical", "document_frequency", "quarantine")


def contents(state: State) -> dict[str, Any]:
    """All that readers, `log` and `verify` can see: equal for two databases that hold the same."""
    return {name: state_rows(state, statement) for name, statement in _CONTENTS.items()} | {
        table: state_rows(
            state,
            "SELECT DISTINCT v.number, c.key, x.embedding::text FROM snapdex.version v JOIN membership m ON"
            " v.number >= m.from_version AND v.number < m.to_version JOIN occurrence o USING (revision_id)"
            f" JOIN chunk c ON c.id = o.chunk_id JOIN {table} x ON x.chunk_id = c.id",
        )
        for table in vector_tables(state)
    }


def counts(state: State) -> dict[str, int]:
    """Rows of every table of the index, reachable or not; nothing where there is no index yet."""
    with state.connect() as connection:
        if find_index(connection, state.name) is None:
            return {}
    tables = [*TABLES, *vector_tables(state), "snapdex.version", "snapdex.operation", "snapdex.maintenance"]
    found = {table: state.execute(f"SELECT count(*) FROM {table}")[0][0] for table in tables}
    index = state.index()
    return found | {"epoch": index.epoch, "last": index.last_version, "active": index.active_version or 0}


def vector_tables(state: State) -> list[str]:
    return [
        name
        for (name,) in state.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
            " AND relname ~ '^vectors_[0-9]+$' ORDER BY 1"
        )
    ]


def state_rows(state: State, statement: str) -> list[tuple[Any, ...]]:
    return sorted(state.execute(statement.replace("{name}", f"'{state.name}'")), key=repr)


def store_keys(state: State) -> dict[str, set[bytes]]:
    """The keys that each store holds."""
    place = state.root / "data" / "store"
    names = [
        "documents",
        "elements",
        "chunks",
        *(f"embeddings/{path.name}" for path in (place / "embeddings").iterdir()),
    ]
    return {name: set(state.workspace.store(name).keys()) for name in names}


def manifests(state: State) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((state.root / "data" / "manifests").rglob("*.tsv"))}
