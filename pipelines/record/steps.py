"""The steps of a record, each of which may be killed and done again."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from pipelines import index
from pipelines.erased import read_erased
from pipelines.errors import ConflictError, IntegrityError, ServiceUnavailable
from pipelines.failpoints import failpoint
from pipelines.files import Workspace, flocked
from pipelines.index.catalog import set_record
from pipelines.record import dvc, git, remote
from pipelines.record.ready import Place, record_paths


@dataclass(frozen=True)
class Record:
    """Where a version is recorded. `pushed`: the DVC remote has every object of it."""

    version: int
    snapshot: str
    git_commit: str
    dvc_md5: str
    tag: str
    branch: str
    pushed: bool
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def locked(workspace: Workspace) -> Iterator[None]:
    """One recorder at a time in a workspace; the kernel frees the lock of a killed one."""
    workspace.state.mkdir(parents=True, exist_ok=True)
    with (workspace.state / "record.lock").open("w") as file:
        if not flocked(file):
            raise ConflictError(
                "another process records in this workspace", hint="wait for it to end, then run with --record again"
            )
        yield


def record(place: Place, version: index.Version) -> Record:
    """Data to the remote, then the commit, then the row, then the refs; nothing refers to what is not there yet.

    Everything that is done already is left as it is: the same version gives the same record.
    """
    with locked(place.workspace):
        failpoint("record.begin")
        _check_stores(place)
        pushed = _record_data(place)
        tip = _commit(place, version)
        failpoint("record.git_committed")
        return _refer(place, version, recorded_commit(place, version) or tip, pushed)


def refer_again(place: Place, version: index.Version, commit: str) -> None:
    """Row and refs for a version that has its commit: what is left when a recorder was killed there."""
    with locked(place.workspace):
        _refer(place, version, commit, pushed=False)


def _refer(place: Place, version: index.Version, commit: str, pushed: bool) -> Record:
    tag = tag_of(place, version)
    dvc_md5 = _dvc_md5(place, commit)
    _write_row(place, version, commit, dvc_md5)
    failpoint("record.row_written")
    _set_tag(place, version, tag, commit)
    failpoint("record.tagged")
    if place.origin:
        git.push(place.repository, place.branch)
    failpoint("record.git_pushed")
    return Record(version.number, version.snapshot, commit, dvc_md5, tag, place.branch, pushed, place.note)


def is_recorded(place: Place, version: index.Version) -> bool:
    """Whether row, tag and origin all say so."""
    ref = f"refs/tags/{tag_of(place, version)}"
    if version.git_commit is None or version.git_commit != recorded_commit(place, version):
        return False
    ours = git.object_of(place.repository, ref)
    return not place.origin or git.on_origin(place.repository, ref) == {ref: ours}


def tag_of(place: Place, version: index.Version) -> str:
    return f"{place.branch}/v{version.number}-{version.snapshot[:12]}"


def _check_stores(place: Place) -> None:
    """What is damaged, or was erased, must not become what DVC takes for the truth."""
    for store in place.workspace.stores():
        if damaged := store.damaged():
            raise IntegrityError(
                f"segment {damaged[0].name} of {store.directory} is damaged: it is not recorded",
                hint="bring it back first: dvc checkout --force, or dvc pull --force",
            )
    erased = read_erased(place.workspace, place.index)
    stored = place.workspace.store("documents").keys()
    if erased.records and any(erased.content(key.hex()) for key in stored):
        raise ConflictError(
            "data/store still has the bytes of a document that was erased elsewhere",
            hint="erase it here too: snapdex erase DOCUMENT",
        )


def _record_data(place: Place) -> bool:
    """dvc.lock and the cache, then the remote; true if there is one, and every object is on it."""
    root = place.workspace.root
    dvc.remove_stale_lock(root)
    dvc.commit(root, remote.our_stages(root))
    failpoint("record.dvc_committed")
    default = remote.default_remote(root)
    if default:
        dvc.push(root)
    failpoint("record.pushed")
    if default:
        _verify_remote(place, default)
    failpoint("record.verified")
    return default is not None


def _verify_remote(place: Place, default: str) -> None:
    """Ask for each object; what is lacking is pushed once more, which DVC does only where the `.dir` is gone, too."""
    root = place.workspace.root
    objects = remote.stored_objects(root, default)
    lost = remote.lacking(root, objects)
    if lost:
        again = {each.oid for each in lost} | {each.directory for each in lost}
        remote.remove(root, [each for each in objects if each.oid in again])
        dvc.push(root)
        lost = remote.lacking(root, objects)
    if lost:
        raise ServiceUnavailable(
            f"the DVC remote lacks {len(lost):,} of {len(objects):,} objects after two pushes, such as {lost[0].oid}",
            hint="`dvc push` says more; nothing in git has moved, and the next run with --record goes on from here",
        )


def _commit(place: Place, version: index.Version) -> str:
    """The commit at the tip of the branch that has our files as they are now; a new one unless it is there already."""
    parent = place.tip
    tree = git.write_tree(place.repository, parent, record_paths(place))
    same = parent and tree.id == git.object_of(place.repository, f"{parent}^{{tree}}")
    if parent and same and (recorded_commit(place, version) or _names(place, parent, version)):
        tip = parent
    else:
        again = recorded_commit(place, version) is not None
        text = message(place.index, version, again=again)
        tip = git.commit_tree(place.repository, place.branch, parent, tree, text)
    git.refresh_index(place.repository, tree)
    return tip


def _names(place: Place, commit: str, version: index.Version) -> bool:
    text = place.repository.tell("show", "--no-patch", "--format=%B", commit)
    return text.startswith(f"{place.index} v{version.number}: ") and f"snapshot: {version.snapshot}" in text


def message(name: str, version: index.Version, *, again: bool = False) -> str:
    """What changed, in one line; then what anybody needs to know to trust the version.

    `again`: the version has its commit, and only settings, or the order in which its files came about, have changed.
    """
    documents = version.report.get("documents", {})
    counts = [(documents.get(kind, 0), kind) for kind in ("added", "modified", "removed", "renamed")]
    changes = ", ".join(f"{count:,} {kind}" for count, kind in counts if count) or f"{version.documents:,} documents"
    changes = "recorded again, with other settings or segments" if again else changes
    lines = [
        f"{name} v{version.number}: {changes} (snapshot {version.snapshot[:12]})",
        "",
        f"documents: {version.documents}",
        f"chunks: {version.chunks}",
        f"embedded: {version.report.get('embedded', 0)}",
        f"recipe: {version.recipe}",
        f"model: {version.model}",
        f"space: {version.space}",
        f"snapshot: {version.snapshot}",
    ]
    return "\n".join(lines) + "\n"


def recorded_commit(place: Place, version: index.Version) -> str | None:
    """The commit of the version's tag, if that is on our branch: one that this clone left behind is not."""
    commit, tip = git.commit_of(place.repository, f"refs/tags/{tag_of(place, version)}"), place.tip
    return commit if commit and tip and git.is_ancestor(place.repository, commit, tip) else None


def _dvc_md5(place: Place, commit: str) -> str:
    done = git.run_git(place.repository.top, "cat-file", "blob", f"{commit}:{place.from_top('dvc.lock')}")
    return hashlib.md5(done.stdout.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def _write_row(place: Place, version: index.Version, commit: str, dvc_md5: str) -> None:
    if (version.git_commit, version.dvc_md5) == (commit, dvc_md5):
        return
    with index.connect(index.database_url(place.workspace)) as connection, index.translated_errors():
        row = index.get_index(connection, place.index)
        set_record(connection, row, version.number, git_commit=commit, dvc_md5=dvc_md5)


def _set_tag(place: Place, version: index.Version, tag: str, commit: str) -> None:
    if git.commit_of(place.repository, f"refs/tags/{tag}") != commit:
        text = message(place.index, version)
        words = ("tag", "--annotate", "--no-sign", "--force", "--file", "-", tag, commit)
        place.repository.tell(*words, data=text, env=git.identity(place.repository))
