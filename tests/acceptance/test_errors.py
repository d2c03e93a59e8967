"""Every ending has its exit code, one line that says what is wrong, and one that says what to do."""

import os
import random
import subprocess

import pytest
from program import Snapdex, clean_environment

SECRET = "p%40ss-c4n%2Fary"
SECRET_PLAIN = "p@ss-c4n/ary"


@pytest.fixture(scope="module")
def snapdex(new_workspace, handbook, write_tree, tmp_path_factory):
    workspace = new_workspace("errors")
    workspace.sources = write_tree(tmp_path_factory.mktemp("tree"), handbook)
    workspace("run", workspace.sources)
    return workspace


@pytest.fixture
def scribbled(snapdex):
    """A function that adds lines to params.yaml for one test."""
    path = snapdex.root / "params.yaml"
    before = path.read_text("utf-8")
    yield lambda old, new: path.write_text(before.replace(old, new), "utf-8")
    path.write_text(before, "utf-8")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("chunk.max_token=200", "chunk.max_token"),
        ("chunks.max_tokens=200", "chunks"),
        ("chunk.max_tokens=many", "chunk.max_tokens"),
        ("chunk.max_tokens=2", "chunk.max_tokens"),
        ("chunk.max_tokens='200'", "chunk.max_tokens"),
        ("collect.sources=here", "collect.sources"),
        ("search.mode=fuzzy", "search.mode"),
        ("search.dense_weight=.nan", "search.dense_weight"),
        ("index.name=Not A Name", "index.name"),
        ("chunk.max_tokens", "chunk.max_tokens"),
    ],
)
def test_a_wrong_setting_is_named(snapdex, setting, named):
    assert named in snapdex("plan", "--set", setting, code=2).error


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("max_tokens: 256", "maximum_tokens: 256", "chunk.maximum_tokens"),
        ("max_tokens: 256", "max_tokens: big", "chunk.max_tokens"),
        ("search:", "serach:", "serach"),
        ("chunk:", "chunk: [", "YAML"),
        ("index:\n  name: handbook", "index: handbook", "index"),
        ("search:", 'schedules: [{cron: "* * * *"}]\nsearch:', "schedules.0.cron"),
        ("search:", 'schedules: [{cron: "* * * * *", timezone: Middle/Earth}]\nsearch:', "schedules.0.timezone"),
    ],
)
def test_a_wrong_parameter_file_is_explained(snapdex, scribbled, old, new, named):
    scribbled(old, new)
    ending = snapdex("search", "anything", code=2)
    assert named in ending.error
    assert "params.yaml" in ending.error


@pytest.mark.parametrize(
    "words",
    [
        ("serch", "x"),
        ("search",),
        ("search", "x", "--mode", "psychic"),
        ("search", "x", "-k", "0"),
        ("search", "x", "--filter", "owner"),
        ("run", "--no-such-option"),
        ("db", "restart"),
    ],
    ids=" ".join,
)
def test_wrong_usage_points_to_the_help(snapdex, words):
    assert "--help" in snapdex(*words, code=2).hint or words[-1] == "owner"


@pytest.mark.parametrize("command", ["search", "ask"])
def test_nothing_was_asked(snapdex, command):
    assert "is empty" in snapdex(command, " ", code=3).error


@pytest.mark.parametrize("command", ["run", "plan"])
def test_missing_sources(snapdex, tmp_path, command):
    (tmp_path / "empty").mkdir()
    assert "nowhere" in snapdex(command, tmp_path / "nowhere", code=3).error
    assert "empty" in snapdex(command, tmp_path / "empty", code=3).error
    assert "nothing-like-it" in snapdex(command, f"{tmp_path}/nothing-like-it*.md", code=3).error
    assert snapdex.json("search", "refund")["version"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ("show", "v99"),
        ("show", "no-such-tag"),
        ("search", "x", "--at", "v99"),
        ("diff", "v1", "v99"),
        ("rollback", "v99"),
        ("publish", "v99"),
        ("verify", "v99"),
        ("documents", "v99", "out"),
        ("tag", "name", "v99"),
        ("untag", "no-such-tag"),
        ("quarantine", "show", "no-such-document"),
        ("log", "--index", "no-such-index"),
        ("search", "x", "--index", "no-such-index"),
        ("quarantine", "list", "--index", "no-such-index"),
        ("documents", "v1", "out", "--index", "no-such-index"),
    ],
    ids=" ".join,
)
def test_what_does_not_exist_is_not_found(snapdex, words):
    named = next(word for word in reversed(words) if word.startswith(("v99", "no-such")))
    assert named.removeprefix("v") in snapdex(*words, code=6).error
    assert not (snapdex.root / "out").exists()


def test_commands_before_the_first_run(new_workspace):
    fresh = new_workspace("fresh")
    for words in (
        ("search", "x"),
        ("documents", "v1", "o"),
        ("quarantine", "list"),
        ("log",),
        ("rollback",),
        ("verify",),
    ):
        assert "snapdex run" in fresh(*words, code=6).hint


def test_conflicts(snapdex):
    assert "active already" in snapdex("publish", "v1", code=5).error


def test_init_does_not_overwrite(snapdex, tmp_path):
    assert "already" in snapdex("init", snapdex.root, code=2).error


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://somebody:{SECRET}@127.0.0.1:1/handbook",
        f"postgresql://somebody@127.0.0.1:1/handbook?password={SECRET}",
        f"host=127.0.0.1 port=1 user=somebody password='{SECRET_PLAIN}'",
    ],
    ids=["url", "query", "keywords"],
)
@pytest.mark.parametrize("command", [("run",), ("search", "x"), ("log", "--json"), ("doctor",)], ids=" ".join)
def test_an_unreachable_database_keeps_the_password_secret(snapdex, url, command):
    elsewhere = Snapdex(snapdex.root, {"SNAPDEX_DATABASE_URL": url})
    words = (*command, snapdex.sources) if command == ("run",) else command
    ending = elsewhere.ending(*words)
    for secret in (SECRET, SECRET_PLAIN, "c4n"):
        assert secret not in ending.stdout + ending.stderr
    if command == ("doctor",):
        assert ending.code == 2
        assert "127.0.0.1:1" in ending.stdout
    else:
        assert ending.code == 75
        assert "127.0.0.1:1" in ending.error


@pytest.mark.parametrize("url", [f"postgresql://a:{SECRET}@[::1/db", f"postgresql://a:{SECRET}@host:port/db"])
def test_a_malformed_database_url_keeps_the_password_secret(snapdex, url):
    ending = Snapdex(snapdex.root, {"SNAPDEX_DATABASE_URL": url}).ending("log")
    assert ending.code in (2, 75)
    assert "c4n" not in ending.error + ending.hint


def test_psql_gets_the_password_but_not_on_its_command_line(snapdex, tmp_path):
    """The server lets the owner in without one, so the password is free to be a canary."""
    url = snapdex.json("db", "url")["url"].replace("snapdex@", f"snapdex:{SECRET}@")
    told = "SELECT 'arguments: ' || :'arguments'"
    script = f"\\set arguments `tr '\\0' ' ' < /proc/$PPID/cmdline`\n{told};\n"
    (tmp_path / "script.sql").write_text(script, "utf-8")
    words = ("db", "psql", "--", "-At", "-f", tmp_path / "script.sql")
    done = subprocess.run(
        snapdex.command(*words),
        cwd=snapdex.root,
        env=clean_environment() | {"SNAPDEX_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "arguments: " in done.stdout
    assert "script.sql" in done.stdout
    assert "c4n" not in done.stdout


def test_a_closed_pipe_is_no_error(snapdex):
    process = snapdex.start("log", "--json")
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), error) == (0, "")


def test_a_document_cannot_steer_the_terminal(snapdex, write_tree, tmp_path):
    evil = "# Evil\n\nRead \x1b[2J\x1b]0;owned\x07 this \u202egnihton\u202c now.\n"
    tree = write_tree(tmp_path, {"evil.md": evil, "\x1b[31mred.md": "# Red\n\nA red name.\n"})
    snapdex("run", tree, "--index", "evil")
    shown = snapdex("search", "read this now red name", "--index", "evil").stdout
    shown += snapdex("diff", "v1", "--index", "evil").stdout + snapdex("show", "--documents", "--index", "evil").stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert os.linesep in shown


def test_a_disk_without_room_is_said_and_not_a_traceback(snapdex):
    """As a full disk is, a limit on the size of files is an error of the system that names the file."""
    (snapdex.sources / "more.md").write_text(f"# More\n\n{random.Random(1).randbytes(60_000).hex()}\n", "utf-8")
    limited = ["bash", "-c", 'ulimit -f 16; exec "$@"', "-", "snapdex", "run", str(snapdex.sources), "-q"]
    done = subprocess.run(
        limited, cwd=snapdex.root, env=clean_environment(), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 75, done.stderr
    assert done.stderr.startswith("error: there is no room to write"), done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert '"added": 1' in snapdex("run", snapdex.sources, "--json").stdout.replace('"added":1', '"added": 1')
