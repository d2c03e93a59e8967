"""What the DVC remote really holds, object by object. The one module that imports DVC, and only when it is called."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError, ServiceUnavailable

QUESTIONS_AT_ONCE = 16
OUR_COMMAND = "python -m pipelines."


@dataclass(frozen=True)
class Stored:
    """An object that `dvc.lock` names; its size as the local cache has it, where it does."""

    oid: str  # MD5; with `.dir` at the end, the list of a directory's files
    size_bytes: int | None
    remote: str
    directory: str | None = None  # the `.dir` object that names this one


def default_remote(root: Path) -> str | None:
    """The name of the remote to push to, from any of DVC's configuration files.

    Raises `ConfigError` for one that cannot be used from here: a package is missing, or it does not name objects by
    their hash (version_aware).
    """
    with open_repository(root) as repository:
        name = repository.config["core"].get("remote")
        if not name:
            return None
        repository.cloud.get_remote_odb(name, "snapdex run --record")
        return str(name)


def our_stages(root: Path, *, of_models: bool = False) -> list[str]:
    """The stages of the workspace's dvc.yaml that run this program; who adds others commits them.

    `of_models`: those that train, one for each name in `models`, instead of those of the index.
    """
    with open_repository(root) as repository:
        file = (root / "dvc.yaml").resolve()
        there = [stage for stage in repository.index.stages if Path(stage.path).resolve() == file]
        ours = [str(stage.name) for stage in there if str(stage.cmd).startswith(OUR_COMMAND)]
        return [name for name in ours if ("@" in name) == of_models]


def stored_objects(root: Path, default: str) -> list[Stored]:
    """Every object of the outputs that are pushed: what restoring the state of `dvc.lock` takes from a remote."""
    with open_repository(root) as repository:
        cache = repository.cache.local
        found = {}
        for out in repository.index.outs:
            if not (out.use_cache and out.can_push and out.hash_info):
                continue
            oid, remote = str(out.hash_info.value), out.remote or default
            path = Path(cache.oid_to_path(oid))
            found[oid, remote] = Stored(oid, _size(path), remote)
            if oid.endswith(".dir") and path.exists():
                for entry in json.loads(path.read_bytes()):
                    each = str(entry["md5"])
                    found[each, remote] = Stored(each, _size(Path(cache.oid_to_path(each))), remote, oid)
        return [found[key] for key in sorted(found)]


def lacking(root: Path, objects: list[Stored]) -> list[Stored]:
    """Those of the objects that their remote does not have, or has in part."""
    with open_repository(root) as repository, ThreadPoolExecutor(QUESTIONS_AT_ONCE) as pool, answers():
        stores = {name: repository.cloud.get_remote_odb(name) for name in {each.remote for each in objects}}
        there = pool.map(lambda each: _is_whole(stores[each.remote], each), objects)
        return [each for each, whole in zip(objects, there, strict=True) if not whole]


def remove(root: Path, objects: list[Stored]) -> None:
    """Take these away from their remotes; what is not there is no error."""
    with open_repository(root) as repository, answers():
        stores = {name: repository.cloud.get_remote_odb(name) for name in {each.remote for each in objects}}
        for each in objects:
            store = stores[each.remote]
            path = store.oid_to_path(each.oid)
            if store.fs.exists(path):
                store.fs.remove(path)


def _is_whole(store: Any, wanted: Stored) -> bool:
    path = store.oid_to_path(wanted.oid)
    try:
        if wanted.oid.endswith(".dir"):
            with store.fs.open(path, mode="rb") as file:
                return hashlib.md5(file.read(), usedforsecurity=False).hexdigest() == wanted.oid.removesuffix(".dir")
        size = store.fs.info(path).get("size")
    except FileNotFoundError:
        return False
    return wanted.size_bytes is None or size is None or size == wanted.size_bytes


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


@contextmanager
def open_repository(root: Path) -> Iterator[Any]:
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]

    try:
        repository = Repo(str(root))
        try:
            yield repository
        finally:
            repository.close()
    except (DvcException, ImportError) as error:
        raise ConfigError(
            f"DVC cannot use {root}: {' '.join(str(error).split())}", hint="`dvc doctor` says more"
        ) from error


@contextmanager
def answers() -> Iterator[None]:
    """Whatever the storage's own library raises means one thing here: what the remote holds is not known."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException:
        raise
    except Exception as error:
        raise ServiceUnavailable(
            f"the DVC remote does not answer: {' '.join(str(error).split())}",
            hint="try again when it does; nothing in git has moved",
        ) from error
