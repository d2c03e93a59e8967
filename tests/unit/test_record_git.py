"""Commits beside somebody's work: real git, no DVC, no database."""

import subprocess
from pathlib import Path

import pytest

from pipelines.errors import ConfigError, ConflictError, ServiceUnavailable
from pipelines.record import git

BRANCH = "snapdex/handbook"


def sh(at: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=at, capture_output=True, text=True, check=True)
    return done.stdout.rstrip("\n")


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Nothing of the machine's git configuration; a name for the tests' own commits."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


@pytest.fixture
def top(tmp_path):
    """A repository with two committed files."""
    top = tmp_path / "repository"
    (top / "sub").mkdir(parents=True)
    sh(top, "init", "--quiet", "--initial-branch", "main")
    for name in ("readme", "sub/params.yaml"):
        (top / name).write_text("one\n")
    sh(top, "add", ".")
    sh(top, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    return top


def commit(repository, paths, message="record\n"):
    parent = git.commit_of(repository, "HEAD")
    tree = git.write_tree(repository, parent, paths)
    made = git.commit_tree(repository, git.current_branch(repository), parent, tree, message)
    git.refresh_index(repository, tree)
    return made


def test_only_the_named_files_are_committed(top):
    (top / "readme").write_text("staged\n")
    (top / "new").write_text("staged\n")
    sh(top, "add", "readme", "new")
    (top / "readme").write_text("staged, and then edited\n")
    (top / "sub/params.yaml").write_text("two\n")
    (top / "sub/ignored.tsv").write_text("row\n")
    (top / ".git/info/exclude").write_text("*.tsv\n")
    before = sh(top, "ls-files", "--stage", "readme", "new")
    repository = git.find(top / "sub")
    assert (repository.top, repository.prefix) == (top, "sub/")
    commit(repository, ["sub/ignored.tsv", "sub/params.yaml"])
    assert sh(top, "show", "--name-only", "--format=").split() == ["sub/ignored.tsv", "sub/params.yaml"]
    assert sh(top, "ls-files", "--stage", "readme", "new") == before
    assert sh(top, "status", "--porcelain").splitlines() == ["A  new", "MM readme"]
    assert (top / "readme").read_text() == "staged, and then edited\n"


def test_a_file_that_is_gone_is_taken_out(top):
    (top / "sub/params.yaml").unlink()
    commit(git.find(top), ["sub/params.yaml"])
    assert sh(top, "ls-tree", "-r", "--name-only", "HEAD") == "readme"
    assert sh(top, "status", "--porcelain") == ""


def test_a_branch_that_moved_is_not_overwritten(top):
    repository = git.find(top)
    parent = git.commit_of(repository, "HEAD")
    tree = git.write_tree(repository, parent, ["readme"])
    git.commit_tree(repository, "main", parent, tree, "somebody else\n")
    with pytest.raises(ConflictError):
        git.commit_tree(repository, "main", parent, tree, "late\n")
    assert sh(top, "log", "-1", "--format=%s") == "somebody else"


def test_a_branch_begins_where_head_is(top):
    (top / "readme").write_text("edited\n")
    sh(top, "add", "readme")
    repository = git.find(top)
    git.start_branch(repository, BRANCH)
    assert git.current_branch(repository) == BRANCH
    assert git.commit_of(repository, BRANCH) == git.commit_of(repository, "main")
    assert sh(top, "status", "--porcelain") == "M  readme"


def test_who_commits(top, monkeypatch):
    repository = git.find(top)
    commit(repository, ["readme"])
    assert sh(top, "log", "-1", "--format=%an <%ae> %cn <%ce>") == " ".join(["snapdex <snapdex@localhost>"] * 2)
    sh(top, "config", "user.name", "Ada")
    sh(top, "config", "user.email", "ada@example.com")
    commit(repository, ["readme"])
    assert sh(top, "log", "-1", "--format=%an <%ae>") == "Ada <ada@example.com>"
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Bot")
    commit(repository, ["readme"])
    assert sh(top, "log", "-1", "--format=%an <%ae>") == "Bot <ada@example.com>"


def test_a_hook_that_points_elsewhere_is_not_followed(top, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert git.find(top).directory == top / ".git"


def test_outside_of_git(tmp_path):
    assert git.find(tmp_path) is None
    repository = git.create(tmp_path)
    git.start_branch(repository, BRANCH)
    assert (git.current_branch(repository), git.commit_of(repository, "HEAD")) == (BRANCH, None)


def test_a_bare_repository_is_refused(tmp_path):
    sh(tmp_path, "init", "--quiet", "--bare")
    with pytest.raises(ConfigError):
        git.find(tmp_path)


@pytest.fixture
def origin(top, tmp_path):
    place = tmp_path / "origin.git"
    sh(tmp_path, "init", "--quiet", "--bare", str(place))
    sh(top, "remote", "add", "origin", str(place))
    return place


def test_branch_and_tag_arrive_together(top, origin):
    repository = git.find(top)
    assert git.has_origin(repository)
    sh(top, "-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "-m", "one", "main/v1")
    git.push(repository, "main")
    refs = ("refs/heads/main", "refs/tags/main/v1")
    assert git.on_origin(repository, *refs, "refs/tags/main/v2") == {
        ref: git.object_of(repository, ref) for ref in refs
    }
    git.push(repository, "main")


def test_none_of_both_arrives_where_the_branch_has_moved(top, origin, tmp_path):
    repository = git.find(top)
    sh(top, "-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "-m", "one", "main/v1")
    git.push(repository, "main")
    sh(tmp_path, "clone", "--quiet", str(origin), "other")
    sh(tmp_path / "other", "switch", "--quiet", "main")
    commit(git.find(tmp_path / "other"), ["readme"])
    sh(tmp_path / "other", "push", "--quiet")
    commit(repository, ["readme"], "ours\n")
    sh(top, "-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "-m", "two", "main/v2")
    with pytest.raises(ConflictError, match="main") as caught:
        git.push(repository, "main")
    assert "git reset --soft origin/main" in caught.value.hint
    assert git.on_origin(repository, "refs/tags/main/v2") == {}


def test_an_origin_that_does_not_answer(top, origin):
    origin.rename(origin.with_name("gone"))
    repository = git.find(top)
    with pytest.raises(ServiceUnavailable):
        git.on_origin(repository, "refs/heads/main")
    with pytest.raises(ServiceUnavailable):
        git.push(repository, "main")
