"""What git keeps of earlier states: the manifests at a commit, and which commits record versions.

A recorded version has the tag `snapdex/<index>/v<number>-<first 12 digits of its snapshot>` (see pipelines/record).
"""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.errors import IntegrityError, NotFoundError
from pipelines.files import Workspace

MANIFESTS = ("documents", "elements", "chunks", "embeddings", "snapshot")


@dataclass(frozen=True)
class RecordedVersion:
    """A tag of a recorded version."""

    ref: str
    number: int
    snapshot: str  # its first 12 digits


def in_git(workspace: Workspace) -> bool:
    """Whether the workspace lies in a git repository that has a commit."""
    return _git(workspace, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").returncode == 0


def recorded_versions(workspace: Workspace, index: str) -> list[RecordedVersion]:
    """The tags of this index, by number. Raises `IntegrityError` where git cannot list them."""
    prefix = f"refs/tags/snapdex/{index}/"
    done = _git(workspace, "for-each-ref", "--format=%(refname)", prefix)
    if done.returncode:
        raise _unreadable(done)
    found = [
        RecordedVersion(ref, int(match[1]), match[2])
        for ref in done.stdout.decode().split()
        if (match := re.fullmatch(r"v(\d+)-([0-9a-f]+)", ref.removeprefix(prefix)))
    ]
    return sorted(found, key=lambda each: each.number)


def branches(workspace: Workspace) -> list[str]:
    """Local and remote branches snapdex/..., of all indexes."""
    done = _git(workspace, "for-each-ref", "--format=%(refname)", "refs/heads/snapdex/", "refs/remotes/*/snapdex/")
    if done.returncode:
        raise _unreadable(done)
    return done.stdout.decode().split()


def erased_records(workspace: Workspace, index: str) -> list[tuple[str, bytes]]:
    """(where it is from, its bytes) of the record of erased documents in every branch, local or remote; each once."""
    done = _git(workspace, "for-each-ref", "--format=%(objectname)", "refs/heads/", "refs/remotes/")
    if done.returncode:
        raise _unreadable(done)
    heads = dict.fromkeys(done.stdout.decode().split())
    found = {blob_id for place, blob_id in manifest_blobs(workspace, heads) if place == (index, "erased")}
    return [(f"erased.tsv in git (blob {each[:12]})", blob(workspace, each)) for each in sorted(found)]


def commit_of(workspace: Workspace, index: str, name: str) -> str:
    """The commit that `name` means: a recorded version (`v3`, `3`, the beginning of its snapshot), or any git revision.

    Raises `NotFoundError` where it means nothing.
    """
    versions = recorded_versions(workspace, index) if in_git(workspace) else []
    number = name.removeprefix("v")
    named = [each for each in versions if number.isdecimal() and len(number) < 10 and each.number == int(number)]
    named = named or [
        each
        for each in versions
        if len(name) >= 4 and (each.snapshot.startswith(name) or name.startswith(each.snapshot))
    ]
    revision = named[-1].ref if named else name
    done = _git(workspace, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode:
        raise NotFoundError(
            f"git has no recorded version or revision {name} of index {index}",
            hint="`git tag --list 'snapdex/*'` lists the recorded versions; `snapdex run --record` records",
        )
    return done.stdout.decode().strip()


def manifests_at(workspace: Workspace, commit: str) -> dict[tuple[str, str], bytes]:
    """The bytes of all manifests at a commit, by (index, name)."""
    return {place: blob(workspace, blob_id) for place, blob_id in manifest_blobs(workspace, [commit])}


def metrics_at(workspace: Workspace, commit: str, index: str) -> dict[str, Any] | None:
    """What was measured at a commit; None where it has no such file."""
    done = _git(workspace, "show", "--end-of-options", f"{commit}:./data/metrics/{index}.json")
    return json.loads(done.stdout) if done.returncode == 0 else None


def manifest_blobs(workspace: Workspace, revisions: Iterable[str]) -> Iterator[tuple[tuple[str, str], str]]:
    """((index, name), id of the blob) of every manifest at each of these revisions."""
    for revision in revisions:
        done = _git(workspace, "ls-tree", "-r", "-z", "--end-of-options", revision, "data/manifests/")
        if done.returncode:
            raise _unreadable(done)
        for line in done.stdout.decode().split("\0"):
            if match := re.fullmatch(r"\d+ blob ([0-9a-f]+)\t(?:.*/)?data/manifests/([^/]+)/([a-z]+)\.tsv", line):
                yield (match[2], match[3]), match[1]


def blob(workspace: Workspace, blob_id: str) -> bytes:
    """The bytes of a blob."""
    done = _git(workspace, "cat-file", "blob", blob_id)
    if done.returncode:
        raise _unreadable(done)
    return done.stdout


def _git(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=workspace.root, capture_output=True, check=False)


def _unreadable(done: subprocess.CompletedProcess[bytes]) -> IntegrityError:
    detail = " ".join(done.stderr.decode("utf-8", "replace").split())
    return IntegrityError(f"git cannot read what is recorded: {detail}", hint="check the repository with: git fsck")
