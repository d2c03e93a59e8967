"""The files of a workspace without the document: manifests, stores, and what this machine remembers."""

import shutil
from dataclasses import replace
from pathlib import Path

import yaml

from pipelines.erase.scope import Scope
from pipelines.erase.segments import stores
from pipelines.erased import document_hash, with_leaves
from pipelines.files import Manifest, Workspace, atomic_write, read_manifest
from pipelines.generate import forget_answers
from pipelines.model import leaf


def rewrite_stores(workspace: Workspace, scope: Scope, segments: dict[str, list[Path]]) -> None:
    """Put what stays of these segments into new ones; vectors first, because revisions say which they are."""
    for kind, store in reversed(stores(workspace)):
        name = str(store.directory.relative_to(workspace.root / "data" / "store"))
        if name in segments:
            store.rewrite(segments[name], lambda key, kind=kind: not scope.condemned.goes(kind, key))  # type: ignore[misc]


def rewrite_manifests(workspace: Workspace, scope: Scope) -> None:
    """Take the rows of what was erased out of the present manifests of all indexes."""
    for index in scope.known.indexes:
        left: set[str] = set()
        for name in ("documents", "elements", "chunks"):
            manifest = read_manifest(workspace.manifest(index, name), name)
            if manifest is None:
                continue
            kept = [row for row in manifest.rows if not scope.goes(index, row[0], row[1])]
            if name == "chunks":
                left = {row[3] for row in kept}
                _keep_leaves(workspace, index, [row for row in manifest.rows if scope.goes(index, row[0], row[1])])
            _write(workspace, index, manifest, kept)
        embeddings = read_manifest(workspace.manifest(index, "embeddings"), "embeddings")
        if embeddings is not None:
            gone = {key.hex() for key in scope.condemned.revisions} - left
            _write(workspace, index, embeddings, [row for row in embeddings.rows if row[0] not in gone])


def _keep_leaves(workspace: Workspace, index: str, gone: list[tuple[str, ...]]) -> None:
    """Before the rows go from `chunks`: without their leaves, `snapshot` names an id that nothing gives any more."""
    snapshot = read_manifest(workspace.manifest(index, "snapshot"), "snapshot")
    if snapshot is not None and gone:
        leaves = [(document_hash(row[0]), leaf(row[0], row[1], row[5])) for row in gone]
        with_leaves(snapshot, leaves).write(workspace.manifest(index, "snapshot"))


def _write(workspace: Workspace, index: str, manifest: Manifest, rows: list[tuple[str, ...]]) -> None:
    if len(rows) < len(manifest.rows):
        replace(manifest, rows=rows).write(workspace.manifest(index, manifest.kind))


def clean_state(workspace: Workspace, scope: Scope) -> None:
    """Remove what caches and interrupted commands hold: stamps by name, answers of language models, clones of sources,
    scratch directories. Training pairs, which quote chunks of all documents, can be made again.
    """
    state = workspace.state
    for index in scope.known.indexes:
        seen = state / "cache" / index / "seen.tsv"
        manifest = read_manifest(seen, "seen") if seen.exists() else None
        if manifest is not None:
            kept = [row for row in manifest.rows if not scope.goes(index, row[1], row[3])]
            replace(manifest, rows=kept).write(seen)
    for pattern in ("plan-*", "restore-*", "parse", "git", "postgres.new"):
        for path in state.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)
    forget_answers(workspace)
    _forget_pairs(workspace)
    for directory in [workspace.root / "data", state / "cache"]:
        for path in directory.rglob(".tmp-*"):  # a write that was killed before its rename
            path.unlink(missing_ok=True)
    _clean_log(state / "postgres.log", scope)


def _forget_pairs(workspace: Workspace) -> None:
    """Remove them, and what `dvc.lock` says of them: their objects are gone, and the next `dvc repro` makes others."""
    shutil.rmtree(workspace.root / "data" / "pairs", ignore_errors=True)
    lock = workspace.root / "dvc.lock"
    recorded = (yaml.safe_load(lock.read_text("utf-8")) if lock.is_file() else None) or {}
    stages = recorded.get("stages") or {}
    kept = {name: stage for name, stage in stages.items() if not name.startswith("pairs@")}
    if len(kept) < len(stages):
        atomic_write(lock, yaml.safe_dump(recorded | {"stages": kept}, sort_keys=False))


def _clean_log(log: Path, scope: Scope) -> None:
    """The server appends, so emptying its log is safe; done only where a name stands in it."""
    names = [uri.encode("utf-8") for uris in scope.documents.values() for uri in uris]
    if log.exists() and any(name in log.read_bytes() for name in names):
        with log.open("r+b") as file:
            file.truncate(0)
