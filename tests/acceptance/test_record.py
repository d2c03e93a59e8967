"""`snapdex run --record` with real git, DVC and Postgres: what is recorded, and what a kill leaves."""

import hashlib
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest
import yaml
from program import Snapdex, clean_environment

from pipelines.failpoints import EXIT_CODE
from pipelines.files import Workspace
from pipelines.ingest import locked

BRANCH = "snapdex/handbook"
POINTS = ["begin", "dvc_committed", "pushed", "verified", "git_committed", "row_written", "tagged", "git_pushed"]
PAGES = {
    "refunds.md": "# Refunds\n\nA support agent may refund up to 250 euros.\n",
    "failover.md": "# Failover\n\nRun `pg_ctl promote` on the replica.\n",
    "glossary.txt": "Drayage: the short haul between port and warehouse.\n",
}
KILL_PUSH = """
import os, signal, sys
if "push" in sys.orig_argv:
    left, rename = int(os.environ["KILL_AFTER"]), os.replace
    def killing(source, target, **rest):
        global left
        if "/remote/" in os.fspath(target):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target, **rest)
    os.replace = os.rename = killing
"""


def sh(at, *words, **more):
    environment = clean_environment() | more
    done = subprocess.run(words, cwd=at, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.rstrip("\n")


def dvc(at, *words):
    return sh(at, sys.executable, "-m", "dvc", *words)


class Studio(Snapdex):
    """A workspace with sources beside it, and perhaps a DVC remote and an origin."""

    @property
    def sources(self):
        return self.root.parents[1] / "sources"

    @property
    def remote(self):
        return self.root.parents[1] / "remote"

    @property
    def origin(self):
        return self.root.parents[1] / "origin.git"

    def record(self, *words, code=0, **environment):
        """A recorded run of sources that are named on the command line."""
        ran = Studio(self.root, self.environment | environment)
        return (
            ran.json("run", self.sources, "--record", *words, code=code)
            if not code
            else ran.ending("run", self.sources, "--record", *words)
        )

    def edit(self, text):
        (self.sources / "refunds.md").write_text(f"# Refunds\n\n{text}\n", "utf-8")

    def refs(self, at=None):
        listed = sh(at or self.root, "git", "for-each-ref", "--format=%(refname:short)", f"refs/tags/{BRANCH}")
        return listed.split()

    def commits(self, at=None):
        """Subjects of the records on the branch, oldest first."""
        log = sh(at or self.root, "git", "log", "--reverse", "--format=%s", BRANCH)
        return [line for line in log.splitlines() if re.match(r"handbook v\d+: ", line)]


@pytest.fixture(scope="module")
def make(template, databases, tmp_path_factory):
    """Makes studios, each with a database of its own."""
    with ExitStack() as stack:

        def make(*, git=True, remote=True, origin=True):
            place = tmp_path_factory.mktemp("record")
            studio = Studio(place / "team" / "handbook", {"SNAPDEX_DATABASE_URL": stack.enter_context(databases())})
            shutil.copytree(template, studio.root)
            studio.edit_params(lambda text: text.replace("model: minilm", "model: hash:64"))
            studio.sources.mkdir()
            for name, text in PAGES.items():
                (studio.sources / name).write_text(text, "utf-8")
            if git:
                team = studio.root.parent
                sh(team, "git", "init", "--quiet", "--initial-branch", "main")
                (team / "readme").write_text("one\n")
                (team / "plan").write_text("one\n")
                sh(team, "git", "add", "readme", "plan")
                sh(team, "git", "commit", "--quiet", "-m", "first")
            if origin:
                sh(place, "git", "init", "--quiet", "--bare", str(studio.origin))
                sh(studio.root, "git", "remote", "add", "origin", str(studio.origin))
            if remote:
                with (studio.root / ".dvc/config").open("a") as file:
                    file.write(f"    remote = store\n['remote \"store\"']\n    url = {studio.remote}\n")
            return studio

        yield make


def fetched(studio, tmp_path, revision=BRANCH):
    """A clone of origin at a revision, with what the remote has, fetched into a cache that was empty."""
    clone = tmp_path / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    sh(tmp_path, "git", "clone", "--quiet", "--branch", revision, str(studio.origin), "clone")
    dvc(clone / "handbook", "pull", "--quiet")
    return clone / "handbook"


def missing_from(studio, root):
    """Objects that dvc.lock in `root` names and the remote lacks, counted from the files themselves."""
    objects = studio.remote / "files" / "md5"
    path_of = lambda md5: objects / md5[:2] / md5[2:]  # noqa: E731
    lock = yaml.safe_load((root / "dvc.lock").read_text("utf-8"))
    listed = [out["md5"] for stage in lock["stages"].values() for out in stage["outs"]]
    tops = [md5 for md5 in listed if md5.endswith(".dir")]
    assert len(tops) == 4
    lost = [md5 for md5 in tops if not path_of(md5).exists()]
    for md5 in set(tops) - set(lost):
        for entry in yaml.safe_load(path_of(md5).read_text("utf-8")):
            data = path_of(entry["md5"])
            if not data.exists() or hashlib.md5(data.read_bytes()).hexdigest() != entry["md5"]:
                lost.append(entry["md5"])
    return lost


# -- five versions in a directory of somebody's repository -------------------------------------------------------------


@pytest.fixture(scope="module")
def studio(make):
    studio = make()
    team = studio.root.parent
    (team / "readme").write_text("staged\n")
    sh(team, "git", "add", "readme")
    (team / "plan").write_text("edited\n")
    return studio


@pytest.fixture(scope="module")
def reports(studio):
    found = [studio.record()]
    for number in range(2, 6):
        studio.edit(f"The limit is {number} euros.")
        found.append(studio.record())
    return found


def test_each_version_has_a_commit_a_tag_and_a_row(studio, reports):
    assert [report["version"] for report in reports] == [1, 2, 3, 4, 5]
    by_number = {version["version"]: version for version in studio.json("log")}
    for report in reports:
        record = report["record"]
        assert record["tag"] == f"{BRANCH}/v{report['version']}-{report['snapshot'][:12]}"
        assert (record["branch"], record["pushed"]) == (BRANCH, True)
        assert sh(studio.root, "git", "rev-parse", f"{record['tag']}^{{commit}}") == record["git_commit"]
        assert sh(studio.root, "git", "cat-file", "-t", record["tag"]) == "tag"
        lock = subprocess.check_output(["git", "show", f"{record['tag']}:handbook/dvc.lock"], cwd=studio.root)
        assert hashlib.md5(lock).hexdigest() == record["dvc_md5"]
        row = by_number[report["version"]]
        assert (row["git_commit"], row["dvc_md5"]) == (record["git_commit"], record["dvc_md5"])
    snapshots = [report["snapshot"][:12] for report in reports]
    changes = ["3 added", *["1 modified"] * 4]
    subjects = [f"handbook v{n}: {changes[n - 1]} (snapshot {snapshots[n - 1]})" for n in range(1, 6)]
    assert studio.commits() == subjects
    body = sh(studio.root, "git", "log", "-1", "--format=%b", reports[0]["record"]["tag"])
    said = dict(line.split(": ") for line in body.splitlines())
    assert (said["documents"], said["embedded"], said["model"]) == ("3", "3", "hash:64")
    assert said["snapshot"] == reports[0]["snapshot"]


def test_origin_has_all_of_it(studio, reports):
    assert studio.refs(studio.origin) == studio.refs() == [report["record"]["tag"] for report in reports]
    assert studio.commits(studio.origin) == studio.commits()


def test_only_the_first_run_says_that_it_changed_the_branch(reports):
    assert "it was on main" in reports[0]["record"]["note"]
    assert {report["record"]["note"] for report in reports[1:]} == {None}


def test_everything_is_clean_and_the_work_of_others_untouched(studio, reports):
    assert "up to date" in dvc(studio.root, "status")
    team = studio.root.parent
    assert sh(team, "git", "status", "--porcelain").splitlines() == [" M plan", "M  readme"]
    assert sh(team, "git", "show", ":readme") == "staged"
    assert sh(team, "git", "show", f"{BRANCH}:readme") == "one"
    assert (team / "plan").read_text() == "edited\n"
    assert sh(team, "git", "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"


def test_a_run_that_changes_nothing_records_nothing_again(studio, reports):
    before = sh(studio.root, "git", "for-each-ref")
    again = studio.record()
    assert (again["published"], again["record"]) == (False, reports[-1]["record"])
    assert sh(studio.root, "git", "for-each-ref") == before


def test_every_tag_can_be_checked_out(studio, reports, tmp_path):
    """In a clone: only the note which version the database of that machine holds is not in git."""
    clone = fetched(studio, tmp_path, reports[-1]["record"]["tag"])
    for report in reports:
        sh(clone, "git", "checkout", "--quiet", report["record"]["tag"])
        dvc(clone, "pull", "--quiet")
        assert sh(clone, "git", "status", "--porcelain") == ""
        changed = [line.split()[-1] for line in dvc(clone, "status").splitlines() if "data/" in line]
        assert changed == ["data/state/handbook/loaded.tsv"]
        manifest = (clone / "data/manifests/handbook/snapshot.tsv").read_text("utf-8")
        assert report["snapshot"] in manifest


def test_text_says_the_same_from_anywhere(studio, reports):
    said = studio("run", studio.sources, "--record", "--home", studio.root, cwd=studio.sources).stdout
    record = reports[-1]["record"]
    assert f"record     {record['git_commit'][:12]}  {record['tag']}  pushed\n" in said
    assert studio.json("run", studio.sources)["record"] is None


def test_other_parameters_are_refused_before_any_work(studio, reports):
    for words in (["--set", "chunk.max_tokens=99"], ["--index", "other"]):
        refused = studio("run", studio.sources, "--record", *words, code=2)
        assert "--record" in refused.error
    assert len(studio.json("log")) == 5


# -- damaged -----------------------------------------------------------------------------------------------------------


def test_damage_is_not_recorded(make):
    studio = make(origin=False)
    studio.record()
    commits = studio.commits()
    segment = next((studio.root / "data/store/documents").glob("*.parquet"))
    whole = segment.read_bytes()
    segment.write_bytes(whole[: len(whole) // 2] + b"?" + whole[len(whole) // 2 + 1 :])
    refused = studio.record(code=4)
    assert refused.code == 4 and "dvc checkout" in refused.stderr
    assert studio.commits() == commits
    dvc(studio.root, "checkout", "--force", "--quiet")
    assert segment.read_bytes() == whole
    segment.unlink()
    missing = studio.json("verify", code=4)
    assert "lacks 3 entries" in missing["problems"][0]


def test_two_clones_that_record_the_same_version_agree_on_its_tag(make):
    """As after a race: each has made the tag, on the same commit, and origin has that of the other."""
    studio = make()
    first = studio.record()["record"]
    sh(studio.root, "git", "push", "--quiet", "origin", f":refs/tags/{first['tag']}")
    sh(studio.root, "git", "tag", "--force", "--annotate", "--message", "theirs", first["tag"], first["git_commit"])
    sh(studio.root, "git", "push", "--quiet", "origin", f"refs/tags/{first['tag']}")
    theirs = sh(studio.root, "git", "rev-parse", first["tag"])
    sh(studio.root, "git", "tag", "--force", "--annotate", "--message", "ours", first["tag"], first["git_commit"])
    assert studio.record()["record"]["git_commit"] == first["git_commit"]
    assert sh(studio.root, "git", "rev-parse", first["tag"]) == theirs


# -- killed ------------------------------------------------------------------------------------------------------------


def test_a_recorder_that_was_killed_anywhere_goes_on(make):
    """Each run finds what the one before left, gets one step further, and is killed there; the last one ends."""
    studio = make()
    for point in POINTS:
        ended = studio.record(code=EXIT_CODE, SNAPDEX_FAILPOINT=f"record.{point}")
        assert ended.code == EXIT_CODE, (point, ended)
        refs = studio.refs(studio.origin)
        assert len(refs) == (point == "git_pushed")
        assert not refs or missing_from(studio, studio.root) == []
    assert len(studio.json("log")) == 1
    studio.edit("The limit is 2 euros.")
    last = studio.record()
    assert (last["version"], last["record"]["pushed"]) == (2, True)
    assert [subject.split()[1] for subject in studio.commits()] == ["v1:", "v2:"]
    assert [tag.split("/")[2].split("-")[0] for tag in studio.refs()] == ["v1", "v2"]
    assert studio.refs() == studio.refs(studio.origin)
    assert all(version["git_commit"] and version["dvc_md5"] for version in studio.json("log"))
    assert "up to date" in dvc(studio.root, "status")
    assert sh(studio.root, "git", "status", "--porcelain") == ""
    assert missing_from(studio, studio.root) == []


@pytest.mark.parametrize("kills", [[0, 2], [5]])
def test_a_push_that_was_killed_is_made_whole(pushing, kills):
    """No ref moves before the remote has everything, and the next run brings it there, whatever the kills left."""
    studio, program = pushing
    studio.edit(f"Before {kills}.")
    tags = studio.refs(studio.origin)
    for objects in kills:
        ended = studio.record(code=75, PYTHONPATH=str(program), KILL_AFTER=str(objects))
        assert (ended.code, "dvc push" in ended.error) == (75, True)
        assert studio.refs(studio.origin) == tags == studio.refs()
    report = studio.record()
    assert report["record"]["pushed"]
    assert missing_from(studio, studio.root) == []
    assert studio.refs(studio.origin) == studio.refs() == [*tags, report["record"]["tag"]]


@pytest.fixture(scope="module")
def pushing(make, tmp_path_factory):
    program = tmp_path_factory.mktemp("program")
    (program / "sitecustomize.py").write_text(KILL_PUSH)
    return make(), program


def test_objects_that_the_remote_lost_are_pushed_again(pushing, tmp_path):
    """The list of a directory is there and its files are not: to DVC this is "up to date"."""
    studio, _ = pushing
    studio.record()
    files = sorted(path for path in studio.remote.rglob("*") if path.is_file() and path.suffix != ".dir")
    files[0].unlink()
    files[1].chmod(0o644)
    files[1].write_bytes(files[1].read_bytes()[:-1])
    lists = list(studio.remote.rglob("*.dir"))
    lists[0].chmod(0o644)
    lists[0].write_bytes(b"[]")
    assert missing_from(studio, studio.root)
    assert studio.record()["record"]["pushed"]
    assert missing_from(studio, studio.root) == []
    clone = fetched(studio, tmp_path)
    stored = sorted(path.relative_to(clone) for path in clone.glob("data/store/**/*.parquet"))
    assert stored == sorted(path.relative_to(studio.root) for path in studio.root.glob("data/store/**/*.parquet"))


# -- others ------------------------------------------------------------------------------------------------------------


def test_without_git_and_without_remotes(make):
    studio = make(git=False, origin=False, remote=False)
    report = studio.record(HOME=str(studio.root.parent), GIT_CONFIG_SYSTEM="/dev/null")
    record = report["record"]
    assert (record["pushed"], record["branch"]) == (False, BRANCH)
    assert "made a git repository" in record["note"]
    assert sh(studio.root, "git", "log", "-1", "--format=%an <%ae>") == "snapdex <snapdex@localhost>"
    assert "no_scm" not in (studio.root / ".dvc/config").read_text("utf-8")
    assert sh(studio.root, "git", "status", "--porcelain") == ""
    assert "up to date" in dvc(studio.root, "status")
    assert sh(studio.root, "git", "log", "--format=%s").splitlines()[1:] == [
        "handbook: a workspace that records its versions"
    ]

    studio.edit("Recorded later.")
    assert studio.json("run", studio.sources)["record"] is None
    pending = studio.json("log")[0]
    assert (pending["version"], pending["git_commit"]) == (2, None)
    studio.edit("And then edited.")
    assert studio.record()["version"] == 3
    assert all(version["git_commit"] for version in studio.json("log"))
    assert len(studio.refs()) == 3

    studio.edit("Of other parameters.")
    studio.json("run", studio.sources)
    studio.edit_params(lambda text: text.replace("max_tokens: 256", "max_tokens: 128"))
    note = studio.record()["record"]["note"]
    assert note == "v4 stays without a record: files or parameters of the workspace have gone on"
    assert [version["git_commit"] is None for version in studio.json("log")] == [False, True, False, False, False]

    with locked(Workspace(studio.root)):
        assert "another run works" in studio("run", studio.sources, "--record", code=5).error


def test_origin_decides_who_is_first(make, tmp_path):
    studio = make(remote=False)
    first = studio.record()
    hook = studio.origin / "hooks" / "update"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    studio.edit("Refused.")
    assert "does not take the record" in studio.record(code=5).error
    assert studio.json("log")[0]["active"]
    assert studio.refs(studio.origin) == [first["record"]["tag"]]
    hook.unlink()
    away = studio.origin.with_name("away")
    studio.origin.rename(away)
    assert "does not answer" in studio.record(code=75).error
    away.rename(studio.origin)

    sh(tmp_path, "git", "clone", "--quiet", "--branch", BRANCH, str(studio.origin), "other")
    sh(tmp_path / "other", "git", "commit", "--quiet", "--allow-empty", "-m", "theirs")
    sh(tmp_path / "other", "git", "push", "--quiet")
    refused = studio.record(code=5)
    assert (refused.code, "another" in refused.error or "commits" in refused.error) == (5, True)
    assert len(studio.json("log")) == 2
    for command in re.findall(r"git (?:fetch|reset) [^,]+", refused.hint):
        sh(studio.root, *command.split())
    report = studio.record()
    assert (report["version"], report["record"]["tag"] in studio.refs(studio.origin)) == (2, True)
    assert studio.json("log")[0]["git_commit"] == report["record"]["git_commit"]
    assert sh(studio.root, "git", "log", "--format=%s", "-3").splitlines()[1:] == ["theirs", studio.commits()[0]]
