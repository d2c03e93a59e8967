"""Erase: one document out of every version, segment, cache, quarantine and log, for ever.

    scope.py     what has to go             segments.py   which rows of segments       known.py   manifests, git
    objects.py   what DVC keeps of them     workspace.py  files of the workspace       index/erase.py, scrub.py   rows

First the record that it is erased (`pipelines/erased.py`), so that nothing brings it back while the rest is done; then
the database, which readers see; then files; then what DVC has of them. Every step may be killed, and done again.
"""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines import index, parse
from pipelines.config import Config
from pipelines.erase import objects as dvc_objects
from pipelines.erase.objects import Objects
from pipelines.erase.scope import (
    Scope,
    find_scope,
    forget_unfinished,
    going_segments,
    records_of,
    settle_vectors,
    write_unfinished,
)
from pipelines.erase.workspace import clean_state, rewrite_manifests, rewrite_stores
from pipelines.erased import add_erased, document_hash
from pipelines.errors import InputError, NotFoundError
from pipelines.failpoints import failpoint
from pipelines.files import Manifest, Workspace, read_manifest
from pipelines.index.catalog import Index, versions
from pipelines.index.db import Connection
from pipelines.index.erase import erase as erase_rows
from pipelines.index.erase import survey
from pipelines.index.scrub import cycle_wal, rewrite_tables
from pipelines.index.server import EmbeddedServer
from pipelines.ingest import locked

ELSEWHERE = "WAL archives and backups of the database server keep it: they are the administrator's to erase"
LEARNED = "models in data/models and in MLflow may have learned from it: fine-tune them anew, and delete the old ones"
BACKUPS = "backups of this machine, clones of this workspace and the source itself keep it"


def erase(
    config: Config,
    workspace: Workspace,
    document: str,
    *,
    copies: bool = False,
    dry_run: bool = False,
    confirm: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Remove the document from everything, or go on where an interrupted command has stopped; returns the plan.

    `confirm` gets the plan before anything changes, and raises to refuse it. `dry_run` changes nothing.

    Raises `NotFoundError` for a document that nothing knows, `InputError` where others have the same content, which
    would keep the text alive, unless `copies` erases them as well.
    """
    name = config.index.name
    with locked(workspace), ExitStack() as stack:
        url = index.database_url(workspace)
        connection = stack.enter_context(index.connect(url))
        stack.enter_context(index.translated_errors())
        index.migrate(connection)
        scope, indexes = find_scope(connection, workspace, name, document, parse.fingerprint(config.parse))
        objects = stack.enter_context(dvc_objects.opened(workspace, scope.known.locks))
        if objects:
            dvc_objects.look(objects, scope.condemned, scope.vectors)
        settle_vectors(connection, indexes, workspace, scope)
        segments = going_segments(workspace, scope)
        scope.objects |= {dvc_objects.object_name(path) for paths in segments.values() for path in paths}
        holding = dvc_objects.holding(objects, scope.condemned) if objects else []
        scope.objects |= set(holding) | (objects.pairs if objects else set())
        plan = _plan(connection, indexes, scope, segments, objects)
        plan["dry_run"] = dry_run
        _refuse(scope, plan, copies=copies, dry_run=dry_run)
        if dry_run:
            return plan
        if confirm:
            confirm(plan)
        embedded = url == EmbeddedServer(workspace.state).url
        _do(connection, indexes, workspace, scope, segments, objects, embedded=embedded)
    plan["notes"] = [BACKUPS] + ([] if embedded else [ELSEWHERE]) + _next_steps(workspace)
    if (workspace.root / "data" / "models").is_dir():
        plan["notes"].append(LEARNED)
    return plan


def _plan(
    connection: Connection,
    indexes: dict[str, Index],
    scope: Scope,
    segments: dict[str, list[Path]],
    objects: Objects | None,
) -> dict[str, Any]:
    by_index = {name: survey(connection, row, scope.documents[name], scope.contents) for name, row in indexes.items()}
    scope.touched |= {n for n, rows in by_index.items() if rows.chunks or rows.searches or scope.documents[n]}
    counts = by_index.values()
    own = survey(connection, indexes[scope.index], [scope.document], []) if scope.index in indexes else None
    places = {oid: objects.places(oid) for oid in scope.objects} if objects else {}
    return {
        "index": scope.index,
        "document": scope.document,
        "document_sha256": document_hash(scope.document),
        "already_erased": scope.erased[scope.index].document(scope.document),
        "unfinished": scope.unfinished,
        "also_in": [{"index": name, "document": uri} for name, uri in scope.copies],
        "versions": own.versions if own else [],
        "documents": sum(each.documents for each in counts),
        "chunks": {"erased": sum(c.chunks for c in counts), "shared": sum(c.shared_chunks for c in counts)},
        "searches": sum(each.searches for each in counts),
        "segments": {name: len(paths) for name, paths in segments.items()},
        "dvc_objects": sum(bool(found) for found in places.values()),
        "dvc_places": sorted({place for found in places.values() for place in found}),
        "dvc_unread_states": objects.unread if objects else 0,
    }


def _refuse(scope: Scope, plan: dict[str, Any], *, copies: bool, dry_run: bool) -> None:
    nothing = not (scope.contents or plan["already_erased"] or plan["versions"] or plan["searches"])
    if nothing and not any(m.uri == scope.document and m.index == scope.index for m in scope.known.mentions()):
        raise NotFoundError(
            f"index {scope.index} has no document {scope.document}, and never had as far as is known",
            hint="`snapdex show active --documents` lists the names of documents",
        )
    if scope.copies and not copies and not dry_run:
        listed = ", ".join(uri for _, uri in scope.copies[:3]) + (" ..." if len(scope.copies) > 3 else "")
        raise InputError(
            f"{len(scope.copies):,} other documents have the same content ({listed}): the text would stay",
            hint="look at them with --dry-run; to erase them all: --copies",
            also_in=plan["also_in"],
        )


def _do(
    connection: Connection,
    indexes: dict[str, Index],
    workspace: Workspace,
    scope: Scope,
    segments: dict[str, list[Path]],
    objects: Objects | None,
    *,
    embedded: bool,
) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for name, records in records_of(connection, indexes, scope, at).items():
        add_erased(workspace, name, records)
    write_unfinished(workspace, scope)  # only now: what is not in the record must not go because of it
    failpoint("erase.tombstoned")
    for name, row in indexes.items():
        erase_rows(connection, row, scope.documents[name], scope.contents)
        _write_summary(connection, workspace, row)
    failpoint("erase.database_committed")
    for name, row in indexes.items():
        if name in scope.touched:
            rewrite_tables(connection, row)
    if embedded:
        cycle_wal(connection)
    failpoint("erase.vacuumed")
    rewrite_manifests(workspace, scope)
    rewrite_stores(workspace, scope, segments)
    clean_state(workspace, scope)
    failpoint("erase.stores_rewritten")
    if objects:
        dvc_objects.delete(objects, scope.condemned, sorted(scope.objects), workspace)
    failpoint("erase.dvc_cleaned")
    forget_unfinished(workspace)


def _write_summary(connection: Connection, workspace: Workspace, row: Index) -> None:
    """The manifest `snapshot` counts the chunks that its version has now."""
    path = workspace.manifest(row.name, "snapshot")
    manifest = read_manifest(path, "snapshot")
    for version in versions(connection, row) if manifest else []:
        if manifest and manifest.facts.get("version") == str(version.number):
            Manifest("snapshot", manifest.facts | {"chunks": str(version.chunks)}, manifest.rows).write(path)


def _next_steps(workspace: Workspace) -> list[str]:
    if (workspace.root / ".dvc").is_dir():
        return ["record the new state, or `dvc pull` asks for objects that are gone: snapdex run --record"]
    return []
