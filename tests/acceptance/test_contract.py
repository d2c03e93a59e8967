"""CONTRACT: commands, options, JSON shapes, and what goes to which stream."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from program import PROGRAM, Snapdex

from pipelines.cli.app import COMMANDS

OPTIONS = {  # of the contract's table, for the commands that exist
    "run": ["--index", "--no-publish", "--strict"],
    "plan": ["--index"],
    "search": ["-k", "--at", "--mode", "--filter", "--fusion", "--mmr", "--expand"],
    "log": ["--json"],
    "show": ["--json"],
    "diff": ["--json"],
    "rollback": ["--json"],
}
SUBCOMMANDS = {
    "db": ["url", "psql", "start", "stop"],
    "finetune": ["check"],
    "golden": ["check", "draft", "grow"],
    "quarantine": ["list", "show", "retry"],
}
HELP = [(name,) for name in COMMANDS] + [(group, name) for group, names in SUBCOMMANDS.items() for name in names]
DOCUMENT_COUNTS = {"total", "added", "modified", "removed", "renamed", "unchanged", "quarantined", "excluded"}


@pytest.fixture(scope="module")
def published(new_workspace, handbook, write_tree, tmp_path_factory):
    """A workspace with two versions and one document in quarantine; `.sources` is its tree."""
    snapdex = new_workspace("contract")
    snapdex.sources = write_tree(tmp_path_factory.mktemp("tree"), handbook | {"notes/empty.txt": b""})
    snapdex.first = snapdex.json("run", snapdex.sources)
    write_tree(snapdex.sources, {"guides/onboarding.md": "# Onboarding\n\nGet a badge on the first day.\n"})
    snapdex.planned = snapdex.json("plan", snapdex.sources)
    snapdex.second = snapdex.json("run", snapdex.sources)
    return snapdex


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_every_command_has_help(words, tmp_path):
    text = Snapdex(tmp_path)(*words, "--help").stdout
    assert text.startswith(f"Usage: snapdex {' '.join(words)} ")
    for option in OPTIONS.get(words[0], []):
        assert option in text


def test_the_installed_program(tmp_path):
    done = subprocess.run([PROGRAM, "search"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 2)


def test_bare_program_shows_help_and_version(tmp_path):
    snapdex = Snapdex(tmp_path)
    overview = snapdex("--help").stdout
    assert all(name in overview for name in COMMANDS)
    assert "Exit codes" in overview
    assert snapdex("--version").stdout.startswith("snapdex ")


def test_run(published):
    report = published.first
    assert report.keys() >= {"index", "version", "snapshot", "published", "parent", "documents", "chunks"}
    assert report.keys() >= {"parsed", "embedded", "gate", "seconds"}
    assert (report["index"], report["version"], report["published"], report["parent"]) == ("handbook", 1, True, None)
    assert len(report["snapshot"]) == 64
    assert int(report["snapshot"], 16)
    assert report["documents"] == {
        **dict.fromkeys(DOCUMENT_COUNTS, 0),
        "total": 4,
        "added": 4,
        "quarantined": 1,
    }
    assert report["chunks"].keys() == {"total", "added", "removed"}
    assert report["gate"] is None
    assert report["seconds"].keys() >= {"total", "collect", "parse", "chunk", "embed", "build", "publish"}
    assert published.second["parent"] == 1


def test_plan(published):
    planned, ran = published.planned, published.second
    assert planned["documents"] == ran["documents"]
    assert planned["chunks"] == ran["chunks"]
    assert planned["to_embed"] == ran["embedded"]
    assert planned["estimate"].keys() >= {"seconds", "bytes", "cost"}


def test_log(published):
    newest, oldest = published.json("log")
    keys = {"version", "snapshot", "parent", "created_at", "active", "tags", "documents", "chunks", "space", "recipe"}
    assert newest.keys() >= keys | {"metrics", "git_commit", "dvc_md5", "prefect_run", "mlflow_run"}
    assert newest["space"].keys() >= {"model", "revision", "dimension"}
    assert (newest["version"], newest["active"], oldest["version"], oldest["active"]) == (2, True, 1, False)
    assert (newest["documents"], newest["tags"], newest["parent"]) == (5, [], 1)
    assert newest["created_at"].endswith("+00:00")
    assert newest["snapshot"] == published.second["snapshot"]


def test_show(published):
    shown = published.json("show", "v1", "--documents")
    assert shown["version"] == 1
    assert [each["document"] for each in shown["document_list"]] == [
        "guides/failover.md",
        "guides/refunds.md",
        "notes/contacts.html",
        "notes/glossary.txt",
    ]


def test_diff(published):
    difference = published.json("diff", "v1", "v2")
    assert (difference["from"], difference["to"]) == (1, 2)
    assert difference["documents"] == {
        "added": ["guides/onboarding.md"],
        "removed": [],
        "modified": [],
        "renamed": [],
    }
    assert difference["chunks"] == {"added": 1, "removed": 0}


def test_search(published):
    result = published.json("search", "who may refund?", "-k", "3")
    assert result.keys() >= {"index", "version", "snapshot", "query", "mode", "abstained", "hits"}
    assert (result["version"], result["abstained"], result["mode"]) == (2, False, "hybrid")
    keys = {"rank", "score", "document", "content_sha256", "revision", "chunk", "text", "section", "page", "start"}
    for rank, hit in enumerate(result["hits"], 1):
        assert hit.keys() >= keys | {"end", "metadata"}
        assert hit["rank"] == rank
        assert isinstance(hit["section"], list)
    assert result["hits"][0]["document"] == "guides/refunds.md"
    assert len(result["hits"]) == 3


def test_verify(published):
    checked = published.json("verify", "v1")
    assert checked.keys() >= {"version", "ok", "checked", "problems"}
    assert (checked["version"], checked["ok"], checked["problems"]) == (1, True, [])
    assert checked["checked"]["documents"] == 4


def test_quarantine(published):
    (listed,) = published.json("quarantine", "list")
    assert listed.keys() >= {"document", "content_sha256", "reason", "detail", "first_seen", "attempts"}
    assert (listed["document"], listed["reason"], listed["attempts"]) == ("notes/empty.txt", "empty", 1)
    assert published.json("quarantine", "show", "notes/empty.txt") == listed


def test_a_version_has_many_names(published):
    published("tag", "before", "v1")
    for name in ("v1", "1", "before", published.first["snapshot"][:10]):
        assert published.json("show", name)["version"] == 1
    assert published.json("show", "active")["version"] == 2
    published("untag", "before")


def test_other_commands_print_one_json_value(published):
    for words in (("log", "--moves"), ("doctor",), ("db", "url"), ("db", "start"), ("quarantine", "retry")):
        published.json(*words)


def test_only_a_person_who_waits_sees_progress(published):
    def stderr_of(*words: str) -> str:
        ours, theirs = pty.openpty()
        command = published.command("plan", published.sources, "--json", *words)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, cwd=published.root)
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert json.loads(out)["documents"]
        return seen.decode()

    Path(published.sources / "guides/refunds.md").write_text("# Refunds\n\nAsk.\n", "utf-8")
    assert "collect" in stderr_of()
    assert stderr_of("-q") == ""


def test_the_workspace_is_found_upwards_and_in_the_environment(published, tmp_path):
    below = published.root / "some" / "where"
    below.mkdir(parents=True)
    assert json.loads(published("log", "--json", cwd=below).stdout)[0]["version"] == 2
    assert json.loads(published("log", "--json", "--home", published.root, cwd=tmp_path).stdout)[0]["version"] == 2
    assert "snapdex init" in published("log", code=2, cwd=tmp_path).hint
    published.environment["SNAPDEX_HOME"] = str(published.root)
    assert json.loads(published("log", "--json", cwd=tmp_path).stdout)[0]["version"] == 2
    published.environment.clear()
