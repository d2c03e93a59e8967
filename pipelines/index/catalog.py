"""What indexes, versions and spaces there are: rows of the shared schema as values."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from pipelines.config import IndexConfig
from pipelines.errors import ConfigError, NotFoundError
from pipelines.index.db import Connection, translated_errors
from pipelines.index.migrate import add_index_schema, schema_of

OPEN = 2147483647  # membership.to_version of a document that is in the newest version


@dataclass(frozen=True)
class Index:
    """A row of `snapdex.index`, as it was when it was read: the epoch is what publishing compares."""

    id: int
    name: str
    language: str
    average_terms: int
    epoch: int
    last_version: int
    active_version: int | None

    @property
    def schema(self) -> str:
        return schema_of(self.id)


@dataclass(frozen=True)
class Space:
    """A row of `snapdex.embedding_space`."""

    id: int
    fingerprint: str
    model: str
    revision: str
    dimension: int

    @property
    def table(self) -> str:
        return f"vectors_{self.id}"

    @property
    def graph(self) -> str:
        return f"{self.table}_graph"


@dataclass(frozen=True)
class Version:
    """A row of `snapdex.version` with its space and tags."""

    number: int
    snapshot: str
    parent: int | None
    created_at: datetime
    active: bool
    tags: list[str]
    documents: int
    chunks: int
    recipe: str
    space: str
    model: str
    model_revision: str
    dimension: int
    report: dict[str, Any]
    metrics: dict[str, float] | None
    calibration: dict[str, float] | None
    gate: dict[str, Any] | None  # what the gate decided about it, as `pipelines.evaluate.gate` returns it
    git_commit: str | None
    dvc_md5: str | None
    prefect_run: str | None
    mlflow_run: str | None


# From the views, which readers may see too.
_INDEX = "SELECT id, name, language, average_terms, epoch, last_version, active_version FROM snapdex.indexes"
_VERSION = """
    SELECT v.version AS number, v.snapshot, v.parent, v.created_at, v.active, v.tags, v.documents, v.chunks, v.recipe,
           v.space, v.model, v.model_revision, v.dimension, v.report, v.metrics, v.calibration, v.gate, v.git_commit,
           v.dvc_md5, v.prefect_run, v.mlflow_run
    FROM snapdex.versions v
"""


def find_index(connection: Connection, name: str) -> Index | None:
    with connection.cursor(row_factory=class_row(Index)) as cursor:
        return cursor.execute(f"{_INDEX} WHERE name = %s".encode(), [name]).fetchone()


def get_index(connection: Connection, name: str) -> Index:
    """Raises `NotFoundError` where there is none of this name."""
    index = find_index(connection, name)
    if index is None:
        raise NotFoundError(
            f"there is no index {name}",
            hint="`snapdex run` makes it, `snapdex restore` loads a recorded one, `snapdex doctor` lists what is there",
        )
    return index


def ensure_index(connection: Connection, config: IndexConfig) -> Index:
    """The index of this name, made if it is new. Raises `ConfigError` when a parameter fixed for life differs."""
    check_parameters(connection, config)
    return find_index(connection, config.name) or _make_index(connection, config)


def check_parameters(connection: Connection, config: IndexConfig) -> None:
    """Raises `ConfigError` where the index has, or could be made with, other fixed parameters than these."""
    index = find_index(connection, config.name)
    if index is None:
        known = [str(name) for (name,) in connection.execute("SELECT cfgname FROM pg_ts_config ORDER BY 1").fetchall()]
        if config.language not in known:
            raise ConfigError(
                f"index.language: Postgres knows no text search configuration {config.language}",
                hint="one of: " + ", ".join(known),
            )
        return
    for key, ours, theirs in (
        ("language", config.language, index.language.rpartition("snapdex_")[2].rpartition(".")[2]),
        ("average_terms", config.average_terms, index.average_terms),
    ):
        if ours != theirs:
            raise ConfigError(
                f"index.{key} is {ours}, but index {config.name} was made with {theirs}",
                hint=f"set it back to {theirs}, or name another index: the scores of all versions depend on it",
            )


def _make_index(connection: Connection, config: IndexConfig) -> Index:
    with translated_errors(), connection.transaction():
        with connection.cursor(row_factory=scalar_row) as cursor:
            index_id = cursor.execute(
                "INSERT INTO snapdex.index (name, language, average_terms) VALUES (%s, %s::regconfig, %s)"
                " ON CONFLICT (name) DO NOTHING RETURNING id",
                [config.name, config.language, config.average_terms],
            ).fetchone()
        if index_id is not None:  # else another process made it at the same moment
            add_index_schema(connection, index_id)
    return get_index(connection, config.name)


def ensure_space(connection: Connection, index: Index, facts: dict[str, str]) -> Space:
    """The embedding space that these facts of the `embeddings` manifest describe, with its table in the index."""
    connection.execute(
        "INSERT INTO snapdex.embedding_space (fingerprint, model, revision, dimension) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (fingerprint) DO NOTHING",
        [facts["space"], facts["model"], facts["revision"], int(facts["dimension"])],
    )
    space = get_space(connection, facts["space"])
    with connection.transaction():
        # The index row's lock: CREATE TABLE IF NOT EXISTS alone fails when two sessions run it at once.
        connection.execute("SELECT 1 FROM snapdex.index WHERE id = %s FOR NO KEY UPDATE", [index.id])
        use_schema(connection, index)
        connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (chunk_id bigint PRIMARY KEY, embedding halfvec({}) NOT NULL)"
                " WITH (autovacuum_enabled = false, parallel_workers = 1)"
            ).format(sql.Identifier(index.schema, space.table), sql.Literal(space.dimension))
        )
        connection.execute(
            "SELECT snapdex._make_walk(%s, %s) WHERE to_regproc(%s) IS NULL",
            [index.id, space.id, f"{index.schema}.walk_{space.id}"],
        )
    return space


def get_space(connection: Connection, fingerprint: str) -> Space:
    """The space of a version."""
    with connection.cursor(row_factory=class_row(Space)) as cursor:
        space = cursor.execute(
            "SELECT id, fingerprint, model, revision, dimension FROM snapdex.embedding_space WHERE fingerprint = %s",
            [fingerprint],
        ).fetchone()
    assert space is not None
    return space


def use_schema(connection: Connection, index: Index) -> None:
    """Let unqualified names mean the tables of this index, until the transaction ends."""
    connection.execute(
        "SELECT set_config('search_path', quote_ident(%s) || ', ' || extnamespace::regnamespace::text, true)"
        " FROM pg_extension WHERE extname = 'vector'",
        [index.schema],
    )


def versions(connection: Connection, index: Index) -> list[Version]:
    """All versions of the index, newest first."""
    with connection.cursor(row_factory=class_row(Version)) as cursor:
        statement = f"{_VERSION} WHERE v.index_id = %s ORDER BY v.version DESC"
        return cursor.execute(statement.encode(), [index.id]).fetchall()


def get_version(connection: Connection, index: Index, name: str | int) -> Version:
    """The version that `name` means: `v3`, `3`, a tag, `active`, or the beginning of one snapshot id.

    Raises `NotFoundError` where nothing or more than one snapshot matches. Of several versions of one snapshot it is
    the newest.
    """
    found = (
        versions_of_number(connection, index, name)
        if isinstance(name, int)
        else versions_named(connection, index, name)
    )
    snapshots = {version.snapshot for version in found}
    if not found and name == "active":
        raise NotFoundError(
            f"no version of index {index.name} is active",
            hint="`snapdex log` lists the versions: snapdex publish V; or load a recorded one: snapdex restore V",
        )
    if not found:
        raise NotFoundError(f"index {index.name} has no version {name}", hint="`snapdex log` lists the versions")
    if len(snapshots) > 1:
        raise NotFoundError(
            f"{name} is the beginning of {len(snapshots)} snapshot ids", hint="give more digits of the one you mean"
        )
    return found[0]


def newest_version(connection: Connection, index: Index) -> Version | None:
    """The one whose documents are the open rows of `membership`; forget keeps it."""
    with connection.cursor(row_factory=class_row(Version)) as cursor:
        statement = f"{_VERSION} WHERE v.index_id = %s ORDER BY v.version DESC LIMIT 1"
        return cursor.execute(statement.encode(), [index.id]).fetchone()


def find_version(connection: Connection, index_name: str, name: str) -> Version | None:
    """As `get_version`, or None where there is no such index or version."""
    index = find_index(connection, index_name)
    found = versions_named(connection, index, name) if index else []
    return found[0] if len({version.snapshot for version in found}) == 1 else None


def last_maintenance(connection: Connection, index: Index) -> int:
    """Grows whenever content was taken away or brought back: an erased document changes versions that were there."""
    row = connection.execute("SELECT snapdex._maintained(%s)", [index.id]).fetchone()
    assert row is not None
    return int(row[0])


def raise_last_version(connection: Connection, index: Index, number: int) -> None:
    """Let no number up to this one be given to a new version."""
    connection.execute(
        "UPDATE snapdex.index SET last_version = greatest(last_version, %s) WHERE id = %s", [number, index.id]
    )


def versions_of_number(connection: Connection, index: Index, number: int) -> list[Version]:
    with connection.cursor(row_factory=class_row(Version)) as cursor:
        statement = f"{_VERSION} WHERE v.index_id = %s AND v.version = %s"
        return cursor.execute(statement.encode(), [index.id, number]).fetchall()


def versions_named(connection: Connection, index: Index, name: str) -> list[Version]:
    with connection.cursor(row_factory=class_row(Version)) as cursor:

        def look(condition: str, value: object) -> list[Version]:
            statement = f"{_VERSION} WHERE v.index_id = %s AND {condition} ORDER BY v.version DESC"
            return cursor.execute(statement.encode(), [index.id, value]).fetchall()

        if name == "active":
            return look("v.version = %s", index.active_version)
        tagged = look("%s = ANY(v.tags)", name)
        digits = name.removeprefix("v")
        if tagged or (digits.isdecimal() and len(digits) < 10 and (numbered := look("v.version = %s", int(digits)))):
            return tagged or numbered
        is_prefix = len(name) >= 4 and all(digit in "0123456789abcdef" for digit in name)
        return look("v.snapshot LIKE %s", f"{name}%") if is_prefix else []


def set_metrics(connection: Connection, index: Index, number: int, metrics: dict[str, Any]) -> None:
    """Keep with a version what it was measured to be."""
    connection.execute(
        "UPDATE snapdex.version SET metrics = %s WHERE index_id = %s AND number = %s",
        [Jsonb(metrics), index.id, number],
    )


def set_calibration(connection: Connection, index: Index, number: int, calibration: dict[str, float]) -> None:
    """Keep with a version what was learned for searching it; what stands there already stays, as all of its content."""
    connection.execute(
        "UPDATE snapdex.version SET calibration = coalesce(calibration, %s) WHERE index_id = %s AND number = %s",
        [Jsonb(calibration), index.id, number],
    )


def set_gate(connection: Connection, index: Index, number: int, decision: dict[str, Any]) -> None:
    """Keep with a version what the gate decided last."""
    connection.execute(
        "UPDATE snapdex.version SET gate = %s WHERE index_id = %s AND number = %s", [Jsonb(decision), index.id, number]
    )


def set_record(connection: Connection, index: Index, number: int, *, git_commit: str, dvc_md5: str) -> None:
    """Note in the version's row where git and DVC have it."""
    connection.execute(
        "UPDATE snapdex.version SET git_commit = %s, dvc_md5 = %s WHERE index_id = %s AND number = %s",
        [git_commit, dvc_md5, index.id, number],
    )


def set_runs(
    connection: Connection, index: Index, number: int, *, prefect_run: str | None = None, mlflow_run: str | None = None
) -> None:
    """Note in the version's row which runs made and measured it; what stands there already stays."""
    connection.execute(
        "UPDATE snapdex.version SET prefect_run = coalesce(prefect_run, %s), mlflow_run = coalesce(mlflow_run, %s)"
        " WHERE index_id = %s AND number = %s",
        [prefect_run, mlflow_run, index.id, number],
    )


def set_tag(connection: Connection, index: Index, name: str, version: int) -> None:
    """Let `name` stand for the version. Raises `ConfigError` for names that already mean something else."""
    taken = re.fullmatch(r"active|v?\d+|[0-9a-f]{4,}", name, re.IGNORECASE)
    if taken or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,99}", name):
        raise ConfigError(
            f"{name!r} cannot be a tag: it reads as a version, or is not a plain word",
            hint="choose a name such as before-migration: letters, digits, dot, dash, underscore",
        )
    connection.execute(
        "INSERT INTO snapdex.tag (index_id, name, version) VALUES (%s, %s, %s)"
        " ON CONFLICT (index_id, name) DO UPDATE SET version = excluded.version",
        [index.id, name, version],
    )


def remove_tag(connection: Connection, index: Index, name: str) -> None:
    """Raises `NotFoundError` where there is no such tag."""
    if not connection.execute("DELETE FROM snapdex.tag WHERE index_id = %s AND name = %s", [index.id, name]).rowcount:
        raise NotFoundError(f"index {index.name} has no tag {name}", hint="`snapdex log` shows the tags")
