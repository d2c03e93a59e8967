"""Prune: reclaim what nothing needs any more, in the database and in the stores.

First everything is read that says what is needed: versions in the database, the manifests of the workspace, what is
recorded in git. If any of that fails, it raises, and nothing is deleted. Then rows go, also those of the log
of searches that are older than `log.keep_days`, then entries of stores.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines import index, recorded
from pipelines.compact import compact
from pipelines.config import Config
from pipelines.files import Store, Workspace, parse_manifest
from pipelines.index import retrievals
from pipelines.ingest import locked
from pipelines.manifests import chunks_rows, document_from_row, elements_rows, vectors_store
from pipelines.model import Revision
from pipelines.progress import Progress

WORTH_REWRITING = 0.1  # of a segment's entries not needed: from here on it is written anew without them


@dataclass
class Needed:
    """Keys that something names, by what they are keys of; `spaces` by their stores' names."""

    contents: set[bytes] = field(default_factory=set)
    elements: set[bytes] = field(default_factory=set)
    revisions: set[bytes] = field(default_factory=set)
    chunks: set[bytes] = field(default_factory=set)
    spaces: set[str] = field(default_factory=set)


def prune(
    config: Config,
    workspace: Workspace,
    *,
    dry_run: bool = False,
    wait_seconds: float = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Delete what no version, manifest or record needs; returns what was (or would be) deleted.

    `rows` by table, `store` by store: entries, bytes, segments. Raises `ConflictError` when a run works in
    the workspace for longer than `wait_seconds`.
    """
    with locked(workspace, wait_seconds):
        url = index.database_url(workspace)
        with index.connect(url) as connection, index.translated_errors():
            index.migrate(connection)
            found = index.find_index(connection, config.index.name)
            needed = _needed(config, workspace, index.needed_revisions(connection))
            forgotten = _unneeded(workspace, needed)
            rows: dict[str, int] = {}
            if found is not None:
                rows = asdict(index.garbage(connection, found) if dry_run else index.prune(connection, found, progress))
                forget_searches = retrievals.expired if dry_run else retrievals.expire
                rows["retrieval_log"] = forget_searches(connection, found, config.log.keep_days)
        report = {}
        for name, segments in forgotten.items():
            store = workspace.store(name)
            report[name] = asdict(_total(segments))
            if not dry_run:
                keep = _keys(needed, name)
                store.rewrite((each.path for each in segments if each.worth_rewriting), keep.__contains__)
                compact(store)
    return {
        "index": config.index.name,
        "dry_run": dry_run,
        "rows": rows,
        "store": report,
    }


# -- what is needed ----------------------------------------------------------------------------------------------------


def _needed(config: Config, workspace: Workspace, in_database: index.NeededRevisions) -> Needed:
    needed = Needed(
        contents=set(in_database.contents),
        revisions=set(in_database.revisions),
        spaces={vectors_store(space) for space in in_database.spaces},
    )
    for path in sorted((workspace.root / "data" / "manifests").glob("*/*.tsv")):
        _add_manifest(needed, path.stem, path.read_bytes(), str(path))
    if recorded.in_git(workspace):
        refs = recorded.branches(workspace)
        refs += [
            each.ref
            for name in sorted({config.index.name, *in_database.forgotten})
            for each in recorded.recorded_versions(workspace, name)
            if each.number not in in_database.forgotten.get(name, ())
        ]
        blobs = {blob: place for place, blob in recorded.manifest_blobs(workspace, refs)}
        for blob, (_, kind) in blobs.items():
            _add_manifest(needed, kind, recorded.blob(workspace, blob), f"git blob {blob[:12]}")
    for _, value in _present(workspace.store("chunks"), needed.revisions):
        needed.chunks.update(chunk.key for chunk in Revision.from_json(value).chunks)
    return needed


def _add_manifest(needed: Needed, kind: str, data: bytes, name: str) -> None:
    if kind not in recorded.MANIFESTS or kind == "snapshot":
        return
    manifest = parse_manifest(data, kind, name)
    if kind == "documents":
        needed.contents.update(bytes.fromhex(document_from_row(row).content_sha256) for row in manifest.rows)
    elif kind == "elements":
        rows = elements_rows(manifest)
        needed.contents.update(bytes.fromhex(row.content_sha256) for row in rows)
        needed.elements.update(row.element_key for row in rows if row.element_key)
    elif kind == "chunks":
        revisions = chunks_rows(manifest)
        needed.contents.update(bytes.fromhex(row.content_sha256) for row in revisions)
        needed.revisions.update(row.revision_key for row in revisions)
    else:
        needed.spaces.add(vectors_store(manifest.facts["space"]))


def _present(store: Store, keys: set[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return store.read(keys - store.missing(keys))


# -- what is not -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """A segment, and how many of its entries nothing needs."""

    path: Path
    entries: int
    dead: int

    @property
    def worth_rewriting(self) -> bool:
        return self.dead > 0 and self.dead >= WORTH_REWRITING * self.entries


@dataclass(frozen=True)
class Total:
    segments: int  # that are written anew, or go altogether
    entries: int
    bytes: int  # about


def _unneeded(workspace: Workspace, needed: Needed) -> dict[str, list[Segment]]:
    found = {}
    for name in ("documents", "elements", "chunks", *_spaces(workspace)):
        store, keep = workspace.store(name), _keys(needed, name)
        found[name] = [
            Segment(path, len(keys), sum(key not in keep for key in keys)) for path, keys in store.keys_by_segment()
        ]
    return found


def _spaces(workspace: Workspace) -> list[str]:
    place = workspace.root / "data" / "store" / "embeddings"
    return [f"embeddings/{path.name}" for path in sorted(place.glob("*")) if path.is_dir()]


def _keys(needed: Needed, name: str) -> set[bytes]:
    by_name = {"documents": needed.contents, "elements": needed.elements, "chunks": needed.revisions}
    return by_name.get(name, needed.chunks if name in needed.spaces else set())


def _total(segments: list[Segment]) -> Total:
    worth = [each for each in segments if each.worth_rewriting]
    return Total(
        segments=len(worth),
        entries=sum(each.dead for each in worth),
        bytes=sum(each.path.stat().st_size * each.dead // each.entries for each in worth),
    )
