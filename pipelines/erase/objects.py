"""The segments that DVC keeps: in the local cache and on every remote, of the present and of every recorded state."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pipelines.erase.segments import KINDS, Condemned, Vectors, is_segment, keys_of, rows_of
from pipelines.erase.segments import stores as all_stores
from pipelines.errors import ServiceUnavailable
from pipelines.files import Workspace
from pipelines.record import dvc
from pipelines.record.remote import answers, open_repository

DIRECTORY = ".dir"  # the end of an object's name that lists a directory
STORE = "data/store/"
PAIRS = "data/pairs/"


@dataclass
class Objects:
    """DVC's objects of our segments. `kinds`: of every segment that a recorded state names; `unread`: lists of such

    states that neither the cache nor a remote has any more; `pairs`: those of training pairs, which quote chunks.
    """

    cache: Any
    remotes: dict[str, Any]
    temporary: Path
    kinds: dict[str, str] = field(default_factory=dict)
    stores: dict[str, str] = field(default_factory=dict)  # the name of the store that a segment is of
    unread: int = 0
    pairs: set[str] = field(default_factory=set)
    _found: dict[str, Path | None] = field(default_factory=dict)

    def places(self, oid: str) -> list[str]:
        """Where the object is: `cache`, and names of remotes."""
        found = ["cache"] if Path(self.cache.oid_to_path(oid)).exists() else []
        with answers():
            return found + [name for name, store in self.remotes.items() if store.fs.exists(store.oid_to_path(oid))]

    def path(self, oid: str) -> Path | None:
        """The object as a file: in the cache, else fetched for now; None where nobody has it."""
        if oid not in self._found:
            cached = Path(self.cache.oid_to_path(oid))
            self._found[oid] = cached if cached.exists() else self._fetched(oid)
        return self._found[oid]

    def _fetched(self, oid: str) -> Path | None:
        target = self.temporary / oid
        for store in self.remotes.values():
            with answers():
                if store.fs.exists(store.oid_to_path(oid)):
                    with store.fs.open(store.oid_to_path(oid), mode="rb") as source, target.open("wb") as file:
                        shutil.copyfileobj(source, file)
                    return target
        return None

    def segments(self) -> Iterator[tuple[str, str | None, Path]]:
        """(object, kind, file) of every segment that can be found: those that recorded states name, wherever they are,

        and all others in the local cache.
        """
        for oid, kind in self.kinds.items():
            if path := self.path(oid):
                yield oid, kind, path
        for path in sorted(Path(self.cache.path).glob("[0-9a-f][0-9a-f]/*")):
            oid = path.parent.name + path.name
            if oid not in self.kinds and path.is_file() and not oid.endswith(DIRECTORY) and is_segment(path):
                yield oid, None, path

    def delete(self, oid: str) -> int:
        """Remove the object everywhere; in how many places it was."""
        found = self.places(oid)
        for name in found:
            if name == "cache":
                Path(self.cache.oid_to_path(oid)).unlink(missing_ok=True)
            else:
                with answers():
                    self.remotes[name].fs.remove(self.remotes[name].oid_to_path(oid))
        self._found.pop(oid, None)
        return len(found)

    def learn(self, locks: list[bytes]) -> None:
        """Read which segments the states of these dvc.lock files name."""
        lists = {oid: path for lock in locks for oid, path in _directories(lock)}
        for oid, place in lists.items():
            path = self.path(oid)
            if path is None:
                self.unread += 1
            else:
                self._list(path, place)

    def _list(self, path: Path, place: str) -> None:
        for entry in json.loads(path.read_bytes()):
            if place.startswith(PAIRS):
                self.pairs.add(str(entry["md5"]))
                continue
            name = PurePosixPath(str(entry["relpath"]))
            if name.suffix == ".parquet":
                store = str(PurePosixPath(place.removeprefix(STORE)) / name.parent)
                self.kinds[str(entry["md5"])] = store.partition("/")[0]
                self.stores[str(entry["md5"])] = store


def _directories(lock: bytes) -> Iterator[tuple[str, str]]:
    """(list object, path) of the stores and the training pairs that a dvc.lock names."""
    try:
        stages = (yaml.load(lock, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}).get("stages", {})
    except (yaml.YAMLError, AttributeError):
        return  # of a commit with a merge conflict in it, for instance
    for stage in stages.values():
        for out in stage.get("outs", []):
            path = str(out.get("path", ""))
            ours = path.startswith(PAIRS) or (path.startswith(STORE) and path.removeprefix(STORE) in KINDS)
            if ours and str(out.get("md5")).endswith(DIRECTORY):
                yield str(out["md5"]), path


@contextmanager
def opened(workspace: Workspace, locks: list[bytes]) -> Iterator[Objects | None]:
    """DVC's storage of this workspace; None where DVC is not used.

    Raises `ServiceUnavailable` while a remote does not answer: what it holds has to go too.
    """
    root = workspace.root
    if not (root / ".dvc").is_dir():
        yield None
        return
    dvc.refuse_while_busy(root)
    temporary = workspace.state / "erase-fetched"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with open_repository(root) as opened_repository:
            remotes = {
                name: opened_repository.cloud.get_remote_odb(name) for name in opened_repository.config["remote"]
            }
            if locks:
                _refuse_absent(remotes)
            objects = Objects(opened_repository.cache.local, remotes, temporary)
            objects.learn(locks)
            yield objects
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_absent(remotes: dict[str, Any]) -> None:
    """A directory that is a remote and is not there, such as a disk that is not mounted, looks like an empty one."""
    for name, remote in remotes.items():
        if remote.fs.protocol == "local" and not Path(remote.path).parent.parent.is_dir():
            raise ServiceUnavailable(
                f"the DVC remote {name} is not there: {Path(remote.path).parent.parent}",
                hint="mount it, or take it away with `dvc remote remove`; nothing was erased: it would keep the text",
            )


def look(objects: Objects, condemned: Condemned, vectors: Vectors) -> None:
    """Let segments of recorded states say which vectors go, and which have to stay."""
    found = list(objects.segments())
    for _, kind, path in found:
        if kind in (None, "chunks"):
            vectors.look(condemned, kind, [path])
    vectors.spare(condemned, [path for _, kind, path in found if kind == "chunks"])


def holding(objects: Objects, condemned: Condemned) -> list[str]:
    """The objects that hold a row that goes."""
    return sorted({oid for oid, kind, path in objects.segments() if condemned.holds(kind, path)})


def delete(objects: Objects, condemned: Condemned, oids: list[str], workspace: Workspace) -> int:
    """Remove these objects everywhere; what else stood in them, and the stores lack, goes into the stores first."""
    local = {store.directory: store for _, store in all_stores(workspace)}
    for oid in oids:
        path, name = objects.path(oid), objects.stores.get(oid)
        if path is None or name is None:
            continue
        store = workspace.store(name)
        store = local.get(store.directory, store)
        kept = store.missing(key for key in keys_of(path) if not condemned.goes(objects.kinds[oid], key))
        with store.writer() as writer:
            for key, value in rows_of(path, kept):
                writer.add(key, value)
    return sum(objects.delete(oid) > 0 for oid in oids)


def object_name(path: Path) -> str:
    """What DVC calls a file with these bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
