"""What the manifests of all indexes of a workspace know, as they are now and as git remembers them."""

import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipelines.errors import ConfigError, IntegrityError
from pipelines.files import Workspace, read_manifest
from pipelines.manifests import NONE

COLUMNS = {"documents": 4, "elements": 8, "chunks": 6, "embeddings": 3}
LOCK = "dvc.lock"


@dataclass(frozen=True, slots=True)
class Mention:
    """A manifest says: this document had this content, read as this type."""

    index: str
    uri: str
    content_sha256: str
    media_type: str


@dataclass
class Known:
    """Rows by manifest, each once; `present` are those of now, `past` those that only git has."""

    indexes: list[str]
    present: dict[tuple[str, str], list[tuple[str, ...]]] = field(default_factory=dict)
    past: dict[tuple[str, str], set[tuple[str, ...]]] = field(default_factory=dict)
    facts: dict[str, set[str]] = field(default_factory=dict)  # `parser` and `recipe`: all that ever were
    locks: list[bytes] = field(default_factory=list)  # every dvc.lock there ever was

    def rows(self, *, past: bool = True) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """(index, manifest, row)"""
        for (index, name), rows in self.present.items():
            yield from ((index, name, row) for row in rows)
        if past:
            for (index, name), older in self.past.items():
                yield from ((index, name, row) for row in older)

    def mentions(self, *, past: bool = True) -> Iterator[Mention]:
        for index, name, row in self.rows(past=past):
            if name == "documents":
                yield Mention(index, row[0], row[1], row[3])
            elif name in ("elements", "chunks"):
                yield Mention(index, row[0], row[1], row[2])
            if name == "elements" and row[5] != NONE:  # bytes that failed, while the revision before them serves
                yield Mention(index, row[0], row[5], row[2])

    def _learn(self, facts: dict[str, str]) -> None:
        for fact in ("parser", "recipe"):
            if value := facts.get(fact):
                self.facts.setdefault(fact, set()).add(value)


def read_known(workspace: Workspace, index: str) -> Known:
    """Everything of this workspace; `index` counts also where it has no manifest yet."""
    manifests = workspace.root / "data" / "manifests"
    names = {path.name for path in manifests.iterdir() if path.is_dir()} if manifests.is_dir() else set()
    known = Known(sorted(names | {index}))
    for each in known.indexes:
        for name, columns in COLUMNS.items():
            manifest = read_manifest(workspace.manifest(each, name), name)
            if manifest is None:
                continue
            if any(len(row) != columns for row in manifest.rows):
                raise IntegrityError(
                    f"{workspace.manifest(each, name)} holds a row of another form",
                    hint="bring it back with: git checkout -- FILE",
                )
            known.present[each, name] = manifest.rows
            known._learn(manifest.facts)
    if (workspace.root / LOCK).exists():
        known.locks.append((workspace.root / LOCK).read_bytes())
    for path, data in _history(workspace.root):
        _take(known, PurePosixPath(path), data)
    return known


def _take(known: Known, path: PurePosixPath, data: bytes) -> None:
    """A file of an earlier commit; manifests of earlier releases are read as far as they have the same columns."""
    if path.name == LOCK:
        known.locks.append(data)
        return
    name, index = path.stem, path.parent.name
    head, *lines = data.decode("utf-8", "replace").splitlines()
    known._learn(dict(fact.split("=", 1) for fact in head.split("\t")[1:] if "=" in fact))
    rows = (tuple(line.split("\t")) for line in lines if not line.startswith("#"))
    known.past.setdefault((index, name), set()).update(row for row in rows if len(row) == COLUMNS[name])


def _history(root: Path) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of every version of manifests and of dvc.lock in all refs and reflogs; nothing outside of git.

    Raises `ConfigError` where git is there and cannot be read: what it holds may not be lost, nor overlooked.
    """
    inside = _git(root, "rev-parse", "--show-prefix")
    if inside.returncode != 0:
        if b"not a git repository" in inside.stderr:
            return
        raise _unreadable(root, inside.stderr)
    prefix = inside.stdout.decode().strip()
    paths = (LOCK, "data/manifests")
    listed = _git(root, "log", "--all", "--reflog", "--format=", "--raw", "-z", *_WHOLE, "--", *paths)
    if listed.returncode != 0:
        raise _unreadable(root, listed.stderr)
    wanted: dict[bytes, set[str]] = defaultdict(set)
    for oid, name in _CHANGE.findall(listed.stdout):
        path = name.decode("utf-8", "replace").removeprefix(prefix)
        place = PurePosixPath(path)
        if path == LOCK or (place.suffix == ".tsv" and place.stem in COLUMNS and len(place.parts) == 4):
            wanted[oid].add(path)
    for oid, data in _blobs(root, list(wanted)):
        for path in sorted(wanted[oid]) if data else ():
            yield path, data


_WHOLE = ("--no-abbrev", "--no-renames", "-m", "--root")  # merges and first commits too
_CHANGE = re.compile(rb":\d+ \d+ [0-9a-f]+ ([0-9a-f]*[1-9a-f][0-9a-f]*) [A-Z]\0([^\0]+)\0")  # zeros: it was deleted


def _blobs(root: Path, oids: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Each of these objects, one after the other: all of them at once could be large."""
    with tempfile.TemporaryFile() as names:
        names.write(b"".join(oid + b"\n" for oid in oids))
        names.seek(0)
        with subprocess.Popen(["git", "cat-file", "--batch"], cwd=root, stdin=names, stdout=subprocess.PIPE) as git:
            assert git.stdout
            for oid in oids:
                head = git.stdout.readline().split()
                if len(head) != 3:
                    raise _unreadable(root, b"an object is missing: " + oid)
                data = git.stdout.read(int(head[2]))
                git.stdout.read(1)
                yield oid, data


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        if any((place / ".git").exists() for place in (root, *root.parents)):
            raise _unreadable(root, b"git is not installed") from None
        return subprocess.CompletedProcess(words, 128, b"", b"not a git repository")


def _unreadable(root: Path, reason: bytes) -> ConfigError:
    said = reason.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason given"]
    return ConfigError(
        f"the git history of {root} cannot be read: {said[0]}; nothing was erased",
        hint="mend the repository: it names what has to go, and what has to stay",
    )
