"""Trying failed documents again although nothing about them changed."""

from dataclasses import replace

from pipelines.config import Config
from pipelines.files import Manifest, Workspace, read_manifest
from pipelines.manifests import elements_rows


def forget_failures(config: Config, workspace: Workspace, uris: set[str]) -> int:
    """Take the failures of these documents (empty: all) out of the manifest, so that the next run parses them again.

    A document whose last good revision is kept stays in place until then. Returns how many will be tried.
    """
    path = workspace.manifest(config.index.name, "elements")
    manifest = read_manifest(path, "elements")
    if manifest is None:
        return 0
    rows = elements_rows(manifest)
    failed = [row for row in rows if row.quarantined and (not uris or row.uri in uris)]
    forgotten = {row.uri for row in failed}
    kept = [replace(row, state="ok", failed_sha256=None, reason=None, detail="") for row in failed if row.element_key]
    rest = [row for row in rows if row.uri not in forgotten]
    Manifest("elements", manifest.facts, [row.to_row() for row in [*rest, *kept]]).write(path)
    return len(failed)
