"""Verify: a version against its id, against the files, and, deeply, every vector and weight against both."""

from typing import Any

from pipelines import index
from pipelines.config import Config
from pipelines.errors import IntegrityError
from pipelines.files import Workspace, parse_manifest
from pipelines.manifests import read_chunks, read_documents, read_elements, vectors_store
from pipelines.progress import Progress, Silent


def verify(
    config: Config, workspace: Workspace, name: str, *, deep: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """`{"version", "ok", "checked": {what: count}, "problems": [...]}` of the version that `name` means.

    Reads rows and files, and changes nothing.
    """
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        row = index.get_index(connection, config.index.name)
        version = index.get_version(connection, row, name)
        checked, problems = index.verify(connection, row, version)
        report: dict[str, Any] = dict(checked)
        problems += _check_manifests(workspace, version, config.index.name, report)
        problems += _check_segments(workspace, report)
        if not problems:
            problems += _check_entries(workspace, config.index.name)
        if deep and not problems:  # what is broken on the surface need not be looked into
            space = index.get_space(connection, version.space)
            store = workspace.store(vectors_store(version.space))
            more, found = index.verify_deep(connection, row, version, space.id, store, progress or Silent())
            report |= more
            problems += found
    return {"version": version.number, "ok": not problems, "checked": report, "problems": problems}


def _check_manifests(workspace: Workspace, version: index.Version, name: str, report: dict[str, Any]) -> list[str]:
    problems = []
    report["manifests"] = 0
    for path in sorted(workspace.manifest(name, "snapshot").parent.glob("*.tsv")):
        report["manifests"] += 1
        try:
            manifest = parse_manifest(path.read_bytes(), path.stem, str(path))
        except IntegrityError as error:
            problems.append(str(error))
            continue
        facts = manifest.facts
        if (
            path.stem == "snapshot"
            and facts["version"] == str(version.number)
            and facts["snapshot"] != version.snapshot
        ):
            problems.append(f"{path} says that version {version.number} is snapshot {facts['snapshot'][:12]}")
    return problems


def _check_segments(workspace: Workspace, report: dict[str, Any]) -> list[str]:
    problems = []
    report["segments"] = 0
    for store in workspace.stores():
        report["segments"] += len(store.segments())
        problems += [f"{path} is damaged: it is not what its name says" for path in store.damaged()]
    return problems


def _check_entries(workspace: Workspace, name: str) -> list[str]:
    """What the manifests name has to be in the stores: a restore takes it from there."""
    wanted: dict[str, set[bytes]] = {}
    if workspace.manifest(name, "documents").exists():
        documents = read_documents(workspace, name)
        wanted["documents"] = {bytes.fromhex(document.content_sha256) for document in documents}
    if workspace.manifest(name, "elements").exists():
        _, elements = read_elements(workspace, name)
        wanted["elements"] = {row.element_key for row in elements if row.element_key}
    if workspace.manifest(name, "chunks").exists():
        _, chunks = read_chunks(workspace, name)
        wanted["chunks"] = {row.revision_key for row in chunks}
    lost = {kind: len(workspace.store(kind).missing(keys)) for kind, keys in wanted.items()}
    return [
        f"{workspace.store(kind).directory} lacks {count:,} entries that the manifests name: dvc pull brings them"
        for kind, count in lost.items()
        if count
    ]
