"""Restore: a recorded version back into the database, also an empty one, and its manifests back into the workspace.

    manifests of that version (git) + the store as it is now (DVC)  -->  load, seal, verify, publish

Nothing is parsed, cut or embedded. Everything is checked before the first row changes, and nothing is published before
the rows give the recorded snapshot id.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import index, recorded
from pipelines.config import Config
from pipelines.erased import (
    Erased,
    document_hash,
    learn_erased,
    leaves_beside,
    read_erased,
    with_leaves,
    without_erased,
)
from pipelines.errors import ConflictError, InputError, IntegrityError, NotFoundError
from pipelines.evaluate.outputs import Metrics, read_metrics
from pipelines.failpoints import failpoint
from pipelines.files import Manifest, Store, Workspace, atomic_write, parse_manifest
from pipelines.index.catalog import Index
from pipelines.index.db import Connection
from pipelines.index.history import documents_of
from pipelines.ingest import locked
from pipelines.manifests import chunks_rows, vectors_store
from pipelines.model import Revision
from pipelines.progress import Progress, Silent
from pipelines.quality import adopt


@dataclass(frozen=True)
class Source:
    """Where a version comes from: its manifests by name, and the commit that has them (None: the workspace)."""

    commit: str | None
    manifests: dict[str, bytes]
    version: int
    snapshot: str
    erased: list[tuple[str, bytes]]  # hash of the URI and leaf of documents that these manifests have no row of
    metrics: Metrics | None  # what was measured of it


def restore(
    config: Config,
    workspace: Workspace,
    target: str | None = None,
    *,
    publish: bool = True,
    reason: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Serve the version that `target` names (a recorded version or a git revision; None: the present manifests).

    A version with this content that the database still holds is published again; otherwise it is loaded from the
    store and sealed, under its old number where that is free. Raises `NotFoundError`, `IntegrityError` for damaged
    files, `InputError` for a store that lacks something; in all of these cases nothing has changed.
    """
    began = time.monotonic()
    name = config.index.name
    with locked(workspace):
        if recorded.in_git(workspace):  # an earlier commit may be checked out, from before something was erased
            learn_erased(workspace, name, recorded.erased_records(workspace, name))
        source = find(config, workspace, target)
        check_files(workspace, name, source)
        failpoint("restore.checked")
        with _manifests_in_scratch(workspace, name, source) as scratch:
            version, loaded = _version_of(config, workspace, scratch, source, progress or Silent())
        failpoint("restore.sealed")
        adopt(config, workspace, version.number, source.metrics)
        url = index.database_url(workspace)
        with index.connect(url) as connection, index.translated_errors():
            row = index.get_index(connection, name)
            checked, problems = index.verify(connection, row, version)
        if problems:
            raise IntegrityError(
                f"version {version.number} is not what was recorded: {problems[0]}",
                hint="nothing was published; `snapdex verify --json` has the details",
            )
        published = publish and not version.active
        if published:
            index.publish(
                lambda: index.connect(url),
                name,
                version.number,
                epoch=row.epoch,
                kind="publish" if row.active_version is None else "rollback",  # which scheduled runs do not undo
                reason=reason or f"restored {target or 'from the present files'}",
            )
        failpoint("restore.published")
        for kind, data in _without_erased(source.manifests, read_erased(workspace, name)).items():
            path = workspace.manifest(name, kind)
            if not path.exists() or path.read_bytes() != data:
                atomic_write(path, data)
            failpoint("restore.manifest_written")
        Manifest("loaded", {"snapshot": version.snapshot}, []).write(workspace.loaded(name))
    return {
        "index": name,
        "version": version.number,
        "snapshot": version.snapshot,
        "published": published,
        "commit": source.commit,
        "loaded": loaded,
        "embedded": 0,
        "checked": checked,
        "seconds": {"total": round(time.monotonic() - began, 3)},
    }


def find(config: Config, workspace: Workspace, target: str | None) -> Source:
    """The manifests of the version that is meant, each as it was written, and belonging together."""
    name = config.index.name
    if target is None:
        commit = None
        metrics = read_metrics(workspace, name)
        manifests = {
            kind: workspace.manifest(name, kind).read_bytes()
            for kind in recorded.MANIFESTS
            if workspace.manifest(name, kind).exists()
        }
        where = "the workspace"
    else:
        commit = recorded.commit_of(workspace, name, _in_database(config, workspace, target) or target)
        metrics = recorded.metrics_at(workspace, commit, name)
        every = recorded.manifests_at(workspace, commit)
        manifests = {kind: every[name, kind] for kind in recorded.MANIFESTS if (name, kind) in every}
        where = f"commit {commit[:12]}"
    lacking = [kind for kind in recorded.MANIFESTS if kind not in manifests]
    if lacking:
        raise NotFoundError(
            f"{where} has no manifest {lacking[0]} of index {name}",
            hint="name a recorded version: git tag --list 'snapdex/*'",
        )
    parsed = {kind: parse_manifest(data, kind, f"{where}: {kind}.tsv") for kind, data in manifests.items()}
    facts = parsed["snapshot"].facts
    rows = chunks_rows(parsed["chunks"])
    erased = leaves_beside(parsed["snapshot"])
    given = index.snapshot_of(rows, parsed["chunks"].facts["recipe"], parsed["embeddings"].facts["space"], erased)
    if given != facts["snapshot"]:
        raise IntegrityError(
            f"the manifests of {where} do not belong together: they give snapshot {given[:12]},"
            f" recorded is {facts['snapshot'][:12]}",
            hint="name a recorded version; or let `snapdex run` bring them together again",
        )
    return Source(commit, manifests, int(facts["version"]), facts["snapshot"], erased, metrics)


def _in_database(config: Config, workspace: Workspace, target: str) -> str | None:
    """The commit that the database knows for this name of a version."""
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        found = index.find_version(connection, config.index.name, target)
        return found.git_commit if found else None


def check_files(workspace: Workspace, name: str, source: Source) -> None:
    """Read every byte of the segments, and look every entry up. Raises `IntegrityError` and `InputError`."""
    chunks = parse_manifest(source.manifests["chunks"], "chunks", "chunks.tsv")
    space = parse_manifest(source.manifests["embeddings"], "embeddings", "embeddings.tsv").facts["space"]
    rows = chunks_rows(without_erased(chunks, read_erased(workspace, name)))
    revisions, vectors = workspace.store("chunks"), workspace.store(vectors_store(space))
    documents = workspace.store("documents")
    for store in (revisions, vectors, documents):
        if damaged := store.damaged():
            raise IntegrityError(
                f"segment {damaged[0].name} of {store.directory} is damaged",
                hint="bring it back with: dvc checkout --force, or dvc pull --force",
            )
    _require(documents, {bytes.fromhex(row.content_sha256) for row in rows}, source)
    _require(revisions, {row.revision_key for row in rows}, source)
    keys = {
        chunk.key
        for _, value in revisions.read({row.revision_key for row in rows})
        for chunk in Revision.from_json(value).chunks
    }
    _require(vectors, keys, source)


def _require(store: Store, keys: set[bytes], source: Source) -> None:
    if lost := store.missing(keys):
        pull = f"git checkout {source.commit[:12]} && dvc pull" if source.commit else "dvc pull"
        raise InputError(
            f"{len(lost):,} entries that the manifests name are not in {store.directory}",
            hint=f"fetch them: {pull}; what was pruned, and no DVC remote has, cannot be restored",
        )


def _version_of(
    config: Config, workspace: Workspace, scratch: Workspace, source: Source, progress: Progress
) -> tuple[index.Version, int]:
    """The version of this content in the database, loaded and sealed if it is not there; chunk occurrences sent."""
    name = config.index.name
    url = index.database_url(workspace)
    with index.connect(url) as connection, index.translated_errors():
        index.migrate(connection)
        held = index.find_version(connection, name, source.snapshot)
        if held:
            _refuse_erased(connection, index.get_index(connection, name), held, read_erased(workspace, name))
            return held, 0
    built = index.build(
        config, scratch, report={"restored": source.commit}, erased_leaves=source.erased, progress=progress
    )
    marks = [source.version]
    if (present := index.read_recorded(workspace, name)) is not None:
        marks.append(present.version)
    if recorded.in_git(workspace):
        marks += [each.number for each in recorded.recorded_versions(workspace, name)]
    with index.connect(url) as connection, index.translated_errors():
        row = index.get_index(connection, name)
        index.raise_last_version(connection, row, max(marks))
        return index.get_version(connection, row, built.version), built.loaded


def _refuse_erased(connection: Connection, row: Index, version: index.Version, erased: Erased) -> None:
    """Raises `ConflictError` where the database still holds what was erased in another clone."""
    if erased.records and any(
        erased.either(document.uri, document.content_sha256) for document in documents_of(connection, row, version)
    ):
        raise ConflictError(
            f"version {version.number} of this database has documents that were erased elsewhere",
            hint="erase them here too: snapdex erase DOCUMENT, for each that the other workspace erased",
        )


def _without_erased(manifests: dict[str, bytes], erased: Erased) -> dict[str, bytes]:
    """The manifests as the workspace gets them: a line per document, and none of one that was erased."""
    if not erased.records:
        return manifests
    parsed = {kind: parse_manifest(data, kind, kind) for kind, data in manifests.items()}
    gone = [row for row in chunks_rows(parsed["chunks"]) if erased.either(row.uri, row.content_sha256)]
    for kind in ("documents", "elements", "chunks"):
        parsed[kind] = without_erased(parsed[kind], erased)
    leaves = [(document_hash(row.uri), index.leaf_of(row)) for row in gone]
    parsed["snapshot"] = with_leaves(parsed["snapshot"], leaves)
    return {kind: manifest.to_text().encode("utf-8") for kind, manifest in parsed.items()}


@contextmanager
def _manifests_in_scratch(workspace: Workspace, name: str, source: Source) -> Iterator[Workspace]:
    workspace.state.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="restore-", dir=workspace.state))
    try:
        scratch = Workspace(workspace.root, directory)
        for kind, data in source.manifests.items():
            atomic_write(scratch.manifest(name, kind), data)
        yield scratch
    finally:
        shutil.rmtree(directory, ignore_errors=True)
