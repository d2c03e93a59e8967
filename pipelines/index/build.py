"""Build: from manifests to a sealed snapshot in Postgres. What is there already is not touched, read or sent again."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pipelines.config import Config
from pipelines.errors import ConflictError
from pipelines.files import Manifest, Workspace
from pipelines.index import quarantine
from pipelines.index.catalog import Index, Space, Version, ensure_index, ensure_space, use_schema, versions
from pipelines.index.db import Connection, connect, database_url, translated_errors
from pipelines.index.load import (
    chunks_without,
    drop_damaged_revisions,
    ensure_graph,
    load_revisions,
    load_vectors,
    missing_revisions,
)
from pipelines.index.migrate import migrate
from pipelines.index.publish import was_active
from pipelines.index.seal import Incomplete, seal, snapshot_of
from pipelines.index.weights import load_lexical
from pipelines.manifests import ChunksRow, read_chunks, read_space, vectors_store
from pipelines.model import Quarantined
from pipelines.progress import Progress, Silent

ATTEMPTS = 5  # prune would have to take rows away this often, between loading and sealing, before a build gives up


@dataclass(frozen=True)
class BuildReport:
    """The version that the manifests lead to, and whether this build made it."""

    version: int
    snapshot: str
    created: bool
    active: bool
    held: bool  # it was active once and is not now: somebody rolled it back
    parent: int | None
    active_version: int | None
    epoch: int  # of the index when the build began: what publishing compares
    loaded: int  # chunk occurrences sent to the database
    seconds: float


def run(
    config: Config,
    workspace: Workspace,
    *,
    epoch: int | None = None,
    report: dict[str, Any] | None = None,
    quarantined: Sequence[Quarantined] = (),
    progress: Progress | None = None,
) -> BuildReport:
    """Load what the database lacks of the present manifests and seal it; an equal newest or active version is reused.

    Writes manifest `snapshot`, the stable summary that `verify` compares with the database. Nothing is published.
    `epoch`: of the index when its changes were forecast; `ConflictError` when somebody has published since, because
    what the forecast counted and the guards allowed is no longer what would happen. `report`: kept with the version.
    """
    began = time.monotonic()
    progress = progress or Silent()
    recipe, rows = read_chunks(workspace, config.index.name)
    space_facts = read_space(workspace, config.index.name)
    url = database_url(workspace)
    with connect(url) as connection, translated_errors():
        migrate(connection)
        index = ensure_index(connection, config.index)
        if epoch is not None and index.epoch != epoch:
            raise ConflictError(
                f"index {index.name} was published by somebody else: version {index.active_version} is active now",
                hint="run again: it compares with that version, and finished work is kept",
            )
        snapshot = snapshot_of(rows, recipe, space_facts["space"])
        version = reusable_version(connection, index, snapshot)
        created = version is None
        loaded = 0
        if version is None:
            space = ensure_space(connection, index, space_facts)
            for _ in range(ATTEMPTS):
                loaded += _load(connection, url, index, space, rows, workspace, progress)
                try:
                    version = seal(connection, index, space, rows, recipe, report or {})
                    _analyze(connection, index, "membership")
                    break
                except Incomplete:
                    drop_damaged_revisions(connection, index, [row.revision_key for row in rows])
            else:
                raise ConflictError("rows kept disappearing while they were loaded", hint="is prune running in a loop?")
        quarantine.record(connection, index, quarantined)
        held = not version.active and was_active(connection, index.id, version.number)
    _write_summary(config, workspace, version)
    return BuildReport(
        version=version.number,
        snapshot=version.snapshot,
        created=created,
        active=version.active,
        held=held,
        parent=version.parent,
        active_version=index.active_version,
        epoch=index.epoch,
        loaded=loaded,
        seconds=time.monotonic() - began,
    )


def reusable_version(connection: Connection, index: Index, snapshot: str) -> Version | None:
    """The active or the newest version, if it has this snapshot: there is nothing to build then.

    An older version of the same content is not taken: going back to it is `rollback`, and history stays in order.
    """
    candidates = [v for v in versions(connection, index) if v.active or v.number == index.last_version]
    same = [version for version in candidates if version.snapshot == snapshot]
    return max(same, key=lambda version: version.active, default=None)


def _load(
    connection: Connection,
    url: str,
    index: Index,
    space: Space,
    rows: Sequence[ChunksRow],
    workspace: Workspace,
    progress: Progress,
) -> int:
    keys = sorted({row.revision_key for row in rows})
    missing = missing_revisions(connection, index, keys)
    progress.start(
        "build", sum({row.revision_key: row.n_chunks for row in rows if row.revision_key in missing}.values())
    )
    loaded = load_revisions(
        connection, index, (row for row in rows if row.revision_key in missing), workspace.store("chunks"), progress
    )
    vectors = chunks_without(connection, index, space.table, keys)
    load_vectors(connection, index, space, vectors, workspace.store(vectors_store(space.fingerprint)), Silent())
    lexical = chunks_without(connection, index, "lexical", keys)
    with ThreadPoolExecutor(1) as pool:  # graph and term weights need nothing from each other
        graph = pool.submit(_ensure_graph_elsewhere, url, index, space, changed=bool(vectors))
        load_lexical(connection, index, lexical, Silent())
        graph.result()
    if loaded:
        _analyze(connection, index, "revision", "occurrence", "chunk", "lexical")
    return loaded


def _ensure_graph_elsewhere(url: str, index: Index, space: Space, *, changed: bool) -> None:
    with connect(url) as connection:
        ensure_graph(connection, index, space, changed=changed)


def _analyze(connection: Connection, index: Index, *tables: str) -> None:
    """Fresh statistics: the plans of the first searches depend on them, and autovacuum comes minutes later."""
    with connection.transaction():
        use_schema(connection, index)
        connection.execute(sql.SQL("ANALYZE {}").format(sql.SQL(", ").join(map(sql.Identifier, tables))))


def _write_summary(config: Config, workspace: Workspace, version: Version) -> None:
    facts = {
        "snapshot": version.snapshot,
        "version": str(version.number),
        "recipe": version.recipe,
        "space": version.space,
        "documents": str(version.documents),
        "chunks": str(version.chunks),
    }
    Manifest("snapshot", facts, []).write(workspace.manifest(config.index.name, "snapshot"))
