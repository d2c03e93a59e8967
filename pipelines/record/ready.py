"""Where a workspace records, and every reason why it cannot: asked before any work is done."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.config import Config, load_config
from pipelines.errors import ConfigError
from pipelines.files import Workspace
from pipelines.record import dvc, git, remote

SET_UP = ("params.yaml", "dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore")
GOLDEN_BYTES = 8 * 2**20  # a larger file of a golden set belongs into DVC, where the user puts it
DVC_IGNORES = "/config.local\n/tmp\n/cache\n"  # what `dvc init` writes inside git, and does not outside


@dataclass(frozen=True)
class Place:
    """A workspace that is ready to record, on the branch where it does."""

    workspace: Workspace
    index: str
    repository: git.Repository
    branch: str
    origin: bool
    questions: tuple[str, ...] = ()  # what people judged, on which stages depend, from the workspace
    note: str | None = None  # what was done so that it is ready, in one line

    def from_top(self, path: str) -> str:
        """A path within the workspace as git names it."""
        return f"{self.repository.prefix}{path}"

    @property
    def tip(self) -> str | None:
        return git.commit_of(self.repository, f"refs/heads/{self.branch}")


def prepare(config: Config, workspace: Workspace) -> Place:
    """Check, and be on branch `snapdex/<index>`; outside of git a repository is made.

    Raises `ConfigError` for what somebody has to decide, `ConflictError` where another clone has recorded meanwhile,
    `ServiceUnavailable` where origin does not answer. No file of the user is changed.
    """
    root, name = workspace.root, config.index.name
    branch = f"snapdex/{name}"
    if config != load_config(workspace.params):
        raise ConfigError(
            "--record with parameters from the command line (--set, --index) would record others than were used",
            hint=f"write them into {workspace.params}, and run again",
        )
    if not (root / "dvc.yaml").exists() or not (root / ".dvc").is_dir():
        raise ConfigError(f"{root} is not a DVC repository with a dvc.yaml", hint="make a workspace: snapdex init DIR")
    refuse_links(root)
    if git.run_git(root, "check-ref-format", f"refs/heads/{branch}").code != 0:
        raise ConfigError(
            f"index.name {name} cannot be a part of a git branch", hint="no .. in it, and no .lock or . at its end"
        )
    repository = git.find(root)
    note = None
    if repository is None:
        repository = git.create(root)
        git.start_branch(repository, branch)
        note = f"made a git repository in {root}, on branch {branch}"
    remote.default_remote(root)  # one that cannot be used is refused now
    judged = (config.gate.golden, config.pairs.judgements)
    place = Place(workspace, name, repository, branch, git.has_origin(repository), judged)
    _refuse_merge(place)
    if git.current_branch(repository) != branch:
        note = _switch(place)
    _refuse_behind(place)
    dvc.unset_no_scm(root)
    if not (root / ".dvc" / ".gitignore").exists():
        (root / ".dvc" / ".gitignore").write_text(DVC_IGNORES, "utf-8")
    if place.tip is None:
        paths = [place.from_top(path) for path in SET_UP if (root / path).exists()]
        tree = git.write_tree(repository, None, paths)
        git.commit_tree(repository, branch, None, tree, f"{name}: a workspace that records its versions\n")
        git.refresh_index(repository, tree)
    return replace(place, note=note)


def _switch(place: Place) -> str:
    """Begin the branch where HEAD is, unless there is one already: then the user has to choose between two states."""
    branch, ref = place.branch, f"refs/heads/{place.branch}"
    here = git.current_branch(place.repository) or "a detached HEAD"
    exists = git.object_of(place.repository, ref) is not None
    if exists or (place.origin and git.on_origin(place.repository, ref)):
        fetch = "" if exists else f"git fetch {git.ORIGIN} && "
        raise ConfigError(
            f"this workspace is on {here}, and records of index {place.index} go to branch {branch}",
            hint=f"{fetch}git switch {branch}",
        )
    git.start_branch(place.repository, branch)
    return f"this workspace is on branch {branch} now, where it records; it was on {here}"


def _refuse_merge(place: Place) -> None:
    if (place.repository.directory / "MERGE_HEAD").exists():
        raise ConfigError(
            "a git merge is in progress in this workspace", hint="end it: git commit, or git merge --abort"
        )


def _refuse_behind(place: Place) -> None:
    """Nothing is embedded for a record that origin would refuse."""
    if not place.origin:
        return
    ref = f"refs/heads/{place.branch}"
    theirs = git.on_origin(place.repository, ref).get(ref)
    tip = place.tip
    if theirs and not (tip and git.is_ancestor(place.repository, theirs, tip)):
        raise git.moved_elsewhere(place.branch, "it has commits that this clone has not")


def refuse_links(root: Path) -> None:
    """A pull through a link writes where the link leads (treeverse/dvc #11101): everything down to segments is real."""
    for path in _entries(root / "data"):
        if path.is_symlink():
            raise ConfigError(
                f"{path.relative_to(root)} is a symbolic link: a DVC pull would write where it leads",
                hint="move what it points to here; for space elsewhere: dvc cache dir; cache.type is reflink,copy",
            )


def _entries(data: Path) -> Iterator[Path]:
    yield data
    yield data / "store"
    for directory, names, files in os.walk(data / "store"):
        yield from (Path(directory) / name for name in (*names, *files))


def record_paths(place: Place) -> list[str]:
    """The files of a record, from the top of the repository: the present ones, and recorded ones that are gone."""
    root, index = place.workspace.root, place.index
    kept = [f"data/manifests/{index}", f"data/metrics/{index}"]
    found = [root / path for path in (*SET_UP, "dvc.lock")]
    found += [
        *(root / kept[0]).glob("*.tsv"),
        *(root / kept[1]).rglob("*"),
        *(root / "data/metrics").glob(f"{index}.*"),
    ]
    found += [path for pattern in ("*", "*/*", "*/*/*") for path in (root / "data").glob(f"{pattern}/.gitignore")]
    found += [*(root / "data/metrics/models").glob("*"), root / "data" / ".gitignore"]
    found += [path for name in place.questions for path in _questions(place, name)]
    paths = {place.from_top(path.relative_to(root).as_posix()) for path in found if path.is_file()}
    for directory in kept:
        paths.update(git.tracked(place.repository, place.tip, place.from_top(directory + "/")))
    return sorted(paths)


def _questions(place: Place, name: str) -> list[Path]:
    """The files of a golden set, where it lies in the workspace and is not under DVC already."""
    root = place.workspace.root.resolve()
    golden = (root / name).resolve()
    if not name or not golden.is_relative_to(root) or golden.with_name(f"{golden.name}.dvc").exists():
        return []
    files = [golden, *golden.rglob("*")]
    return [path for path in files if path.is_file() and path.stat().st_size <= GOLDEN_BYTES]
