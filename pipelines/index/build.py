"""Build: from manifests to a sealed snapshot in Postgres. What is there already is not touched, read or sent again."""

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from psycopg.errors import DeadlockDetected, UndefinedTable

from pipelines.config import Config
from pipelines.erased import document_hash, read_erased
from pipelines.errors import ConflictError, IntegrityError
from pipelines.failpoints import failpoint
from pipelines.files import Manifest, Workspace, read_manifest
from pipelines.index import quarantine
from pipelines.index.catalog import Index, Space, Version, ensure_index, ensure_space, versions
from pipelines.index.db import Connection, connect, database_url, translated_errors
from pipelines.index.load import analyze, chunks_without, drop_damaged_revisions, ensure_graph, load_vectors
from pipelines.index.loading import Loading, load_missing_revisions, load_missing_weights
from pipelines.index.migrate import migrate
from pipelines.index.publish import left_behind, was_active
from pipelines.index.seal import Incomplete, Recorded, leaf_of, seal, snapshot_of
from pipelines.index.weights import merge_new_terms
from pipelines.manifests import ChunksRow, read_chunks, read_space, vectors_store
from pipelines.model import Quarantined
from pipelines.progress import Progress, Silent
from pipelines.recorded import in_git, recorded_versions

ATTEMPTS = 5  # prune would have to take rows away this often, between loading and sealing, before a build gives up


@dataclass(frozen=True)
class BuildReport:
    """The version that the manifests lead to, and whether this build made it."""

    version: int
    snapshot: str
    created: bool
    active: bool
    held: bool  # it, or another version of its content, was active and is not now: somebody rolled it back
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
    loading: Loading | None = None,
    erased_leaves: Sequence[tuple[str, bytes]] = (),
    progress: Progress | None = None,
) -> BuildReport:
    """Load what the database lacks of the present manifests and seal it; an equal newest or active version is reused.

    Writes manifest `snapshot`, the stable summary that `verify` compares with the database. Nothing is published.
    `epoch`: of the index when its changes were forecast; `ConflictError` when somebody has published since, because
    what the forecast counted and the guards allowed is no longer what would happen. `report`: kept with the version.
    `loading`: a process that does a part of it; see there. `erased_leaves`: what belongs to this snapshot beside the
    manifests (see `pipelines.erased.leaves_beside`).
    """
    began = time.monotonic()
    progress = progress or Silent()
    recipe, every_row = read_chunks(workspace, config.index.name)
    erased = read_erased(workspace, config.index.name)  # manifests of an earlier state may name what was erased since
    rows = [row for row in every_row if not erased.either(row.uri, row.content_sha256)]
    gone = [(document_hash(row.uri), leaf_of(row)) for row in every_row if erased.either(row.uri, row.content_sha256)]
    gone += erased_leaves
    space_facts = read_space(workspace, config.index.name)
    with connect(database_url(workspace)) as connection, translated_errors():
        migrate(connection)
        index = ensure_index(connection, config.index)
        if epoch is not None and index.epoch != epoch:
            raise ConflictError(
                f"index {index.name} was published by somebody else: version {index.active_version} is active now",
                hint="run again: it compares with that version, and finished work is kept",
            )
        snapshot = snapshot_of(every_row, recipe, space_facts["space"], erased_leaves)
        version = reusable_version(connection, index, snapshot)
        created = version is None
        loaded = 0
        if version is None:
            space = ensure_space(connection, index, space_facts)
            recorded, given = read_recorded(workspace, config.index.name), _highest_in_git(workspace, config.index.name)
            for _ in range(ATTEMPTS):
                try:
                    loaded += _load(connection, index, space, rows, workspace, loading, progress)
                    loading = None  # a second time, little is missing
                    version = seal(
                        connection, index, space, rows, recipe, report or {}, recorded, given=given, erased=gone
                    )
                    analyze(connection, index, "membership")
                    with suppress(UndefinedTable):  # another builder is making these indexes anew
                        merge_new_terms(connection, index)
                    break
                except Incomplete:
                    if damaged := drop_damaged_revisions(connection, index, [row.revision_key for row in rows]):
                        raise IntegrityError(
                            f"{damaged:,} documents of earlier versions lack chunks in the database",
                            hint="`snapdex verify` says which; nothing was changed",
                        ) from None
                except DeadlockDetected:  # while prune was giving room back; what was loaded is there
                    continue
            else:
                raise ConflictError("rows kept disappearing while they were loaded", hint="is prune running in a loop?")
        quarantine.record(connection, index, quarantined)
        held = not version.active and (
            was_active(connection, index.id, version.number) or snapshot in left_behind(connection, index.id)
        )
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
    candidates = [v for position, v in enumerate(versions(connection, index)) if v.active or position == 0]
    same = [version for version in candidates if version.snapshot == snapshot]
    return max(same, key=lambda version: version.active, default=None)


def _load(
    connection: Connection,
    index: Index,
    space: Space,
    rows: Sequence[ChunksRow],
    workspace: Workspace,
    loading: Loading | None,
    progress: Progress,
) -> int:
    """Bring in what is missing: vectors and their graph here, beside the rest in `loading`."""
    loaded = loading.revisions() if loading else load_missing_revisions(connection, index, rows, workspace)
    failpoint("build.revisions_loaded")
    vectors = chunks_without(connection, index, space.table, sorted({row.revision_key for row in rows}))
    progress.start("build", len(vectors))
    load_vectors(connection, index, space, vectors, workspace.store(vectors_store(space.fingerprint)), progress)
    failpoint("build.vectors_loaded")
    ensure_graph(connection, index, space, changed=bool(vectors))
    failpoint("build.graph_built")
    if loading:
        loading.weights()
    else:
        load_missing_weights(connection, index, rows)
    failpoint("build.weights_loaded")
    return loaded


def read_recorded(workspace: Workspace, index: str) -> Recorded | None:
    """What the manifest `snapshot` says was made of these files last."""
    manifest = read_manifest(workspace.manifest(index, "snapshot"), "snapshot")
    return Recorded(int(manifest.facts["version"]), manifest.facts["snapshot"]) if manifest else None


def _highest_in_git(workspace: Workspace, index: str) -> int:
    """The highest number that a recorded version of this index has: the database may be newer than that."""
    tags = recorded_versions(workspace, index) if shutil.which("git") and in_git(workspace) else []
    return max((tag.number for tag in tags), default=0)


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
    Manifest("loaded", {"snapshot": version.snapshot}, []).write(workspace.loaded(config.index.name))
