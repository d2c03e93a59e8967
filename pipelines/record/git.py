"""Git as plumbing: what it holds, and commits that touch neither other files nor what somebody has staged.

Every commit is made in an index of its own (`GIT_INDEX_FILE`) and put on its branch with a compare-and-set; afterwards
the entries of the committed files, and no others, are carried over to the real index.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import ConfigError, ConflictError, ServiceUnavailable

ORIGIN = "origin"
NOBODY = {"NAME": "snapdex", "EMAIL": "snapdex@localhost"}  # who commits where git knows no name
LOCK_TRIES, LOCK_PAUSE_SECONDS = 20, 0.25  # an editor refreshes the index often, but briefly
_ELSEWHERE = (  # a hook or an alias sets these; they would lead away from the workspace
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)


@dataclass(frozen=True)
class Done:
    """How a git command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def says(self) -> str:
        """The line that tells why it failed."""
        lines = [line for line in self.stderr.splitlines() if line.strip() and not line.startswith("hint:")]
        fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
        return (fatal or lines or [f"exit code {self.code}"])[0].strip()


@dataclass(frozen=True)
class Repository:
    """A git work tree that holds the workspace, at its top or below."""

    top: Path
    prefix: str  # of the workspace within it: empty, or with a slash at the end
    directory: Path  # .git of this work tree

    def ask(
        self, *words: str, data: str | None = None, env: Mapping[str, str] | None = None, at: Path | None = None
    ) -> Done:
        return run_git(at or self.top, *words, data=data, env=env)

    def tell(self, *words: str, data: str | None = None, env: Mapping[str, str] | None = None) -> str:
        """The output; raises `ConflictError` where another process has the lock, else `ConfigError`."""
        for _ in range(LOCK_TRIES):
            done = self.ask(*words, data=data, env=env)
            if done.code == 0:
                return done.stdout.rstrip("\n")
            if "index.lock" not in done.stderr:
                break
            time.sleep(LOCK_PAUSE_SECONDS)
        if ".lock" in done.stderr or "cannot lock ref" in done.stderr:
            raise ConflictError(
                f"another process works in the git repository {self.top}: {done.says}",
                hint="wait for it; a lock file that a crash left has to be deleted by hand",
            )
        raise ConfigError(
            f"git {words[0]} failed in {self.top}: {done.says}", hint="finished work is kept; run again when git works"
        )


def run_git(at: Path, *words: str, data: str | None = None, env: Mapping[str, str] | None = None) -> Done:
    clean = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=at,
            env=clean | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1"} | dict(env or {}),
            input=(data or "").encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ConfigError("git is not installed", hint="install git: recording needs it") from error
    return Done(
        done.returncode,
        done.stdout.decode("utf-8", "surrogateescape"),
        done.stderr.decode("utf-8", "replace"),
    )


def find(workspace: Path) -> Repository | None:
    """The repository at or above the workspace; `ConfigError` for one that cannot be used."""
    done = run_git(workspace, "rev-parse", "--show-toplevel", "--absolute-git-dir", "--show-prefix")
    if done.code == 0:
        top, directory, prefix = done.stdout.split("\n")[:3]
        return Repository(Path(top), prefix, Path(directory))
    if "not a git repository" in done.stderr:
        return None
    raise ConfigError(f"git cannot work in {workspace}: {done.says}", hint="mend that, or use another workspace")


def create(workspace: Path) -> Repository:
    """A new repository whose top is the workspace."""
    done = run_git(workspace, "init", "--quiet")
    found = find(workspace) if done.code == 0 else None
    if found is None:
        raise ConfigError(f"git init failed in {workspace}: {done.says}", hint="is the directory writable?")
    return found


def current_branch(repository: Repository) -> str | None:
    """None when HEAD is detached; also a branch that has no commit yet."""
    done = repository.ask("symbolic-ref", "--quiet", "HEAD")
    return done.stdout.strip().removeprefix("refs/heads/") if done.code == 0 else None


def object_of(repository: Repository, revision: str) -> str | None:
    """The full id, or None where there is no such thing here."""
    done = repository.ask("rev-parse", "--quiet", "--verify", "--end-of-options", revision)
    return done.stdout.strip() if done.code == 0 else None


def commit_of(repository: Repository, revision: str) -> str | None:
    return object_of(repository, f"{revision}^{{commit}}")


def is_ancestor(repository: Repository, older: str, newer: str) -> bool:
    """Also when they are the same; false for a commit that is not here."""
    return repository.ask("merge-base", "--is-ancestor", older, newer).code == 0


def start_branch(repository: Repository, branch: str) -> None:
    """Begin `branch` at HEAD and be on it; no file and nothing that is staged changes."""
    head = commit_of(repository, "HEAD")
    if head:
        repository.tell("update-ref", "-m", "snapdex: branch for records", f"refs/heads/{branch}", head, "0" * 40)
    repository.tell("symbolic-ref", "-m", f"snapdex: switch to {branch}", "HEAD", f"refs/heads/{branch}")


def tracked(repository: Repository, commit: str | None, directory: str) -> list[str]:
    """The files below `directory` (from the top) that a commit holds."""
    if commit is None:
        return []
    listed = repository.tell("ls-tree", "-r", "-z", "--full-tree", "--name-only", commit, directory)
    return [name for name in listed.split("\0") if name]


@dataclass(frozen=True)
class Tree:
    """What a commit would hold, and the index entries of the files that were put in."""

    id: str
    entries: str  # in the form of `update-index --index-info`


def write_tree(repository: Repository, parent: str | None, paths: Sequence[str]) -> Tree:
    """The tree of `parent` with the present bytes of `paths` (from the top); those that are gone are taken out."""
    with tempfile.TemporaryDirectory(prefix="snapdex-index-") as directory:
        env = {"GIT_INDEX_FILE": str(Path(directory) / "index")}
        repository.tell("read-tree", parent or "--empty", env=env)
        repository.tell("-c", "core.safecrlf=false", "add", "--all", "--force", "--", *paths, env=env)
        present = repository.tell("ls-files", "--stage", "-z", "--", *paths, env=env)
        names = {entry.partition("\t")[2] for entry in present.split("\0")}
        gone = "".join(f"0 {'0' * 40}\t{path}\0" for path in paths if path not in names)
        return Tree(repository.tell("write-tree", env=env), present + gone)


def commit_tree(repository: Repository, branch: str, parent: str | None, tree: Tree, message: str) -> str:
    """Put a commit on the branch; `ConflictError` when somebody else has moved it since `parent` was read."""
    parents = ["-p", parent] if parent else []
    commit = repository.tell("commit-tree", *parents, "-F", "-", tree.id, data=message, env=identity(repository))
    old = parent or "0" * 40
    subject = message.partition("\n")[0]
    repository.tell("update-ref", "-m", f"snapdex: {subject}", f"refs/heads/{branch}", commit, old)
    return commit


def refresh_index(repository: Repository, tree: Tree) -> None:
    """Let the real index hold the committed files as they were committed; the rest of it stays."""
    repository.tell("update-index", "-z", "--index-info", data=tree.entries)
    repository.ask("update-index", "-q", "--refresh")  # exit code 1 only says that other files differ


def identity(repository: Repository) -> dict[str, str]:
    """Environment for a commit: empty where git is configured, else the name that everybody shares."""
    known = repository.ask("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT").code == 0
    known = known and repository.ask("-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT").code == 0
    if known:
        return {}
    names = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in NOBODY.items()}
    return {name: os.environ.get(name) or value for name, value in names.items()}


# -- the repository that others clone ----------------------------------------------------------------------------------


def has_origin(repository: Repository) -> bool:
    return repository.ask("config", "--get", f"remote.{ORIGIN}.url").code == 0


def on_origin(repository: Repository, *refs: str) -> dict[str, str]:
    """Those of `refs` that origin has, each with the id of its object. Raises `ServiceUnavailable`."""
    done = repository.ask("ls-remote", "--quiet", ORIGIN, *refs)
    if done.code != 0:
        raise _no_answer(done)
    found = {ref: oid for oid, _, ref in (line.partition("\t") for line in done.stdout.splitlines())}
    return {ref: found[ref] for ref in refs if ref in found}


def push(repository: Repository, branch: str) -> None:
    """The branch and all tags below its name that stand on it, also of versions from before there was an origin.

    All of them or none. Raises `ConflictError` when origin refuses, `ServiceUnavailable` when it does not answer.
    """
    head = f"refs/heads/{branch}"
    tags = repository.tell("for-each-ref", "--format=%(refname)", f"--merged={head}", f"refs/tags/{branch}/")
    refs = [head, *tags.splitlines()]
    _adopt_tags(repository, refs[1:])
    done = repository.ask("push", "--atomic", "--porcelain", ORIGIN, *(f"{ref}:{ref}" for ref in refs))
    if done.code == 0:
        return
    refused = [line.split("\t")[-1] for line in done.stdout.splitlines() if line.startswith("!")]
    reasons = [reason for reason in refused if "atomic" not in reason] or refused
    if reasons:
        raise moved_elsewhere(branch, reasons[0])
    raise _no_answer(done)


def _adopt_tags(repository: Repository, tags: list[str]) -> None:
    """Take origin's tag where it stands on the same commit as ours: two clones may have recorded the same version."""
    theirs = on_origin(repository, *tags, *(f"{tag}^{{}}" for tag in tags)) if tags else {}
    same = [
        tag
        for tag in tags
        if theirs.get(f"{tag}^{{}}") == commit_of(repository, tag) and theirs.get(tag) != object_of(repository, tag)
    ]
    if same:
        repository.tell("fetch", "--quiet", "--no-tags", ORIGIN, *(f"+{tag}:{tag}" for tag in same))


def moved_elsewhere(branch: str, reason: str) -> ConflictError:
    return ConflictError(
        f"{ORIGIN} does not take the record on {branch}: {reason}",
        hint=f"somebody else records there: git fetch {ORIGIN}, git reset --soft {ORIGIN}/{branch}, then run again",
    )


def _no_answer(done: Done) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"the git remote {ORIGIN} does not answer: {done.says}",
        hint="try again when it does; what is not recorded then is recorded by the next run with --record",
    )
