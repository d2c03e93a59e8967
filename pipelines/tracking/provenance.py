"""What a run came from, as tags: code, data, index, machine."""

import getpass
import importlib.metadata
import platform
from pathlib import Path

import yaml

from pipelines.errors import ConfigError
from pipelines.files import Workspace
from pipelines.record import git

PACKAGES = ("snapdex", "torch", "transformers", "sentence-transformers", "peft", "datasets", "mlflow", "dvc")


def provenance(
    workspace: Workspace,
    *,
    index: str | None = None,
    version: int | None = None,
    snapshot: str | None = None,
    data: str | None = None,
    prefect_run: str | None = None,
) -> dict[str, str]:
    """Tags of a run; what is not known is left out.

    index, version, snapshot: the version of the index that the training read. data: an output in `dvc.lock`, as a path
    from the workspace, such as the training pairs.
    """
    known = {
        "snapdex.index": index,
        "snapdex.version": version,
        "snapdex.snapshot": snapshot,
        "dvc_path": data,
        "dvc_md5": dvc_md5(workspace, data) if data else None,
        "prefect_run": prefect_run,
        "mlflow.user": _user(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    told = {name: str(value) for name, value in known.items() if value not in (None, "")}
    return told | _commit(workspace) | {f"package.{name}": number for name, number in _packages().items()}


def dvc_md5(workspace: Workspace, path: str) -> str | None:
    """The MD5 that `dvc.lock` has for an output; None where it has none."""
    lock = workspace.root / "dvc.lock"
    if not lock.is_file():
        return None
    try:
        stages = (yaml.safe_load(lock.read_text("utf-8")) or {}).get("stages") or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{lock} is not YAML", hint="bring it back: git checkout -- dvc.lock") from error
    wanted = Path(path).as_posix().rstrip("/")
    for stage in stages.values():
        for output in stage.get("outs") or []:
            if str(output.get("path", "")).rstrip("/") == wanted and output.get("md5"):
                return str(output["md5"])
    return None


def _commit(workspace: Workspace) -> dict[str, str]:
    """HEAD, and whether the tracked files of the workspace differ from it; nothing where there is no repository."""
    try:
        repository = git.find(workspace.root)
    except ConfigError:  # no git, or one that does not work: a run without these tags
        return {}
    commit = git.commit_of(repository, "HEAD") if repository else None
    if repository is None or commit is None:
        return {}
    changes = git.run_git(workspace.root, "status", "--porcelain", "--untracked-files=no", ".")
    dirty = str(bool(changes.stdout.strip()) or changes.code != 0).lower()
    return {"git_commit": commit, "git_dirty": dirty, "mlflow.source.git.commit": commit}


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return None
