"""Where a workspace records, and what is refused before any work: real git, no DVC process, no database."""

import json
import os
import subprocess
import sys

import pytest

from pipelines.config import load_config
from pipelines.errors import ConfigError, ConflictError, ServiceUnavailable
from pipelines.files import Workspace
from pipelines.record import dvc
from pipelines.record.ready import prepare, record_paths
from pipelines.record.steps import locked

BRANCH = "snapdex/handbook"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@b")


@pytest.fixture
def workspace(tmp_path):
    """What `snapdex init` makes, but for DVC's own files; in the directory `team/handbook`."""
    root = tmp_path / "team" / "handbook"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text("[core]\nanalytics = false\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "params.yaml").write_text("index:\n  name: handbook\n")
    return Workspace(root)


def sh(at, *words):
    done = subprocess.run(["git", *words], cwd=at, capture_output=True, text=True, check=True)
    return done.stdout.rstrip("\n")


def ready(workspace, *overrides):
    return prepare(load_config(workspace.params, list(overrides)), workspace)


def team(workspace):
    """A repository with one commit, above the workspace."""
    top = workspace.root.parent
    sh(top, "init", "--quiet", "--initial-branch", "main")
    sh(top, "commit", "--quiet", "--allow-empty", "-m", "first")
    return top


def test_outside_of_git_a_repository_is_made(workspace):
    place = ready(workspace)
    assert place.note == f"made a git repository in {workspace.root}, on branch {BRANCH}"
    committed = {".dvc/.gitignore", ".dvc/config", "dvc.yaml", "params.yaml"}
    assert set(sh(workspace.root, "ls-tree", "-r", "--name-only", BRANCH).split()) == committed
    assert sh(workspace.root, "status", "--porcelain") == ""
    again = ready(workspace)
    assert (again.note, again.tip) == (None, place.tip)


def test_a_repository_without_a_commit(workspace):
    sh(workspace.root, "init", "--quiet")
    place = ready(workspace)
    assert place.tip == sh(workspace.root, "rev-parse", "HEAD")
    assert sh(workspace.root, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"


def test_below_a_repository_a_branch_is_begun(workspace):
    top = team(workspace)
    place = ready(workspace)
    assert place.note == f"this workspace is on branch {BRANCH} now, where it records; it was on main"
    assert (place.tip, place.from_top("dvc.lock")) == (sh(top, "rev-parse", "main"), "handbook/dvc.lock")


def test_from_a_detached_head_a_branch_is_begun(workspace):
    top = team(workspace)
    sh(top, "checkout", "--quiet", "--detach")
    assert ready(workspace).tip == sh(top, "rev-parse", "main")


@pytest.mark.parametrize("where", ["main", "--detach"])
def test_a_branch_that_exists_has_to_be_chosen(workspace, where):
    top = team(workspace)
    sh(top, "branch", BRANCH)
    if where == "--detach":
        sh(top, "checkout", "--quiet", where)
    with pytest.raises(ConfigError) as caught:
        ready(workspace)
    assert caught.value.hint == f"git switch {BRANCH}"
    assert sh(top, "rev-parse", "HEAD") == sh(top, "rev-parse", "main")


@pytest.fixture
def origin(workspace, tmp_path):
    """A bare repository that has the branch, in which `main` of the team's clone is contained."""
    top = team(workspace)
    sh(tmp_path, "clone", "--quiet", "--bare", str(top), "origin.git")
    sh(top, "remote", "add", "origin", str(tmp_path / "origin.git"))
    return tmp_path / "origin.git"


def test_a_branch_that_origin_has_has_to_be_fetched(workspace, origin):
    sh(origin, "branch", BRANCH)
    with pytest.raises(ConfigError) as caught:
        ready(workspace)
    assert caught.value.hint == f"git fetch origin && git switch {BRANCH}"
    sh(workspace.root, "fetch", "--quiet", "origin")
    sh(workspace.root, "switch", "--quiet", BRANCH)
    assert ready(workspace).origin


def test_a_record_of_another_clone_is_seen_before_any_work(workspace, origin):
    ready(workspace)
    tree = sh(origin, "rev-parse", "main^{tree}")
    sh(origin, "update-ref", f"refs/heads/{BRANCH}", sh(origin, "commit-tree", "-m", "theirs", "-p", "main", tree))
    with pytest.raises(ConflictError) as caught:
        ready(workspace)
    assert f"git reset --soft origin/{BRANCH}" in caught.value.hint


def test_an_origin_that_does_not_answer_is_known_before_any_work(workspace, origin):
    origin.rename(origin.with_name("gone"))
    with pytest.raises(ServiceUnavailable):
        ready(workspace)


def test_other_parameters_than_those_of_the_file_are_refused(workspace):
    for override in ("chunk.max_tokens=99", "index.name=other"):
        with pytest.raises(ConfigError, match="--record"):
            ready(workspace, override)
    assert not (workspace.root / ".git").exists()


@pytest.mark.parametrize("place", ["data", "data/store", "data/store/chunks", "data/store/chunks/a.parquet"])
def test_links_are_refused(workspace, tmp_path, place):
    link = workspace.root / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=f"{place} is a symbolic link"):
        ready(workspace)


@pytest.mark.parametrize(
    "remote", ["s3://bucket/x\n    no_such_option = 1", "nosuch://x", "/tmp/x\n    version_aware = true"]
)
def test_a_remote_that_cannot_be_used_is_refused(workspace, remote):
    top = team(workspace)
    with (workspace.root / ".dvc/config").open("a") as file:
        file.write(f"remote = store\n['remote \"store\"']\n    url = {remote}\n")
    with pytest.raises(ConfigError, match="DVC cannot use"):
        ready(workspace)
    assert sh(top, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_a_merge_in_progress_is_refused(workspace):
    ready(workspace)
    (workspace.root / ".git/MERGE_HEAD").write_text("0" * 40 + "\n")
    with pytest.raises(ConfigError, match="merge"):
        ready(workspace)


@pytest.mark.parametrize("name", ["a..b", "a.lock", "a."])
def test_a_name_that_git_cannot_have_is_refused(workspace, name):
    workspace.params.write_text(f"index:\n  name: {name}\n")
    with pytest.raises(ConfigError, match="git branch"):
        ready(workspace)


def test_what_a_record_consists_of(workspace):
    written = [
        "data/manifests/handbook/chunks.tsv",
        "data/metrics/handbook.json",
        "data/metrics/handbook/tokens.csv",
        "data/store/.gitignore",
        "dvc.lock",
        "golden.jsonl",
    ]
    others = [
        "data/manifests/other/chunks.tsv",
        "data/metrics/other.json",
        "data/state/handbook/loaded.tsv",
        "notes.md",
    ]
    others += ["data/manifests/handbook/.tmp-1", "data/store/chunks/0.parquet", ".dvc/config.local"]
    for name in [*written, *others]:
        (workspace.root / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / name).touch()
    workspace.params.write_text("gate:\n  golden: golden.jsonl\n")
    set_up = [".dvc/.gitignore", ".dvc/config", "dvc.yaml", "params.yaml"]
    assert record_paths(ready(workspace)) == sorted([*written, *set_up])


def test_one_recorder_at_a_time(workspace):
    with locked(workspace), pytest.raises(ConflictError), locked(workspace):
        pass


def test_the_lock_of_dead_processes_is_taken_away(workspace):
    path = workspace.root / ".dvc/tmp/rwlock"
    path.parent.mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for holder, stays in ((dead.pid, False), (os.getpid(), True)):
        path.write_text(json.dumps({"write": {"a": {"pid": holder, "cmd": "dvc push"}}, "read": {}}))
        dvc.remove_stale_lock(workspace.root)
        assert path.exists() == stays
    path.write_text('{"write": {"a"')
    dvc.remove_stale_lock(workspace.root)
    assert not path.exists()
