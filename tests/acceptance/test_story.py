"""The main story, told once, in order: run, search, edit, plan, run, diff, roll back, tag, publish, write out."""

import json
import subprocess
import sys

import pytest
from program import clean_environment

HEAVY = ("unstructured", "torch", "sentence_transformers", "mlflow", "prefect", "dvc")


@pytest.fixture(scope="module")
def snapdex(new_workspace):
    return new_workspace("story")


@pytest.fixture(scope="module")
def sources(write_tree, handbook, tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("tree"), handbook)


@pytest.fixture(scope="module")
def original(handbook):
    return {uri: text.encode("utf-8") for uri, text in handbook.items()}


def test_a_first_run_publishes(snapdex, sources):
    said = snapdex("run", sources).stdout.splitlines()
    assert said[0].startswith("handbook v1 ")
    assert said[0].endswith("published")


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_a_hit_cites_the_very_characters_of_the_file(snapdex, sources, mode):
    hits = snapdex.json("search", "promote the replica container demurrage refund", "--mode", mode)["hits"]
    assert hits
    for hit in hits:
        if not hit["document"].endswith(".html"):
            text = (sources / hit["document"]).read_text("utf-8")  # with LF for CRLF, as the citation has it
            assert hit["text"] == text[hit["start"] : hit["end"]]


def test_a_citation_names_document_and_section(snapdex):
    found = snapdex.json("search", "how do I promote the replica with pg_ctl?")
    hit = found["hits"][0]
    assert hit["document"] == "guides/failover.md"
    assert hit["metadata"]["owner"] == "Plattform-Über"
    assert snapdex.json("search", "who may refund?")["hits"][0]["section"] == ["Refunds"]
    for_people = snapdex("search", "who may refund?", "-k", "1").stdout
    assert "guides/refunds.md  Refunds" in for_people


def test_filters_and_modes(snapdex):
    assert "no document of handbook v" in snapdex("search", "refund", "--filter", "document=nowhere/*").stdout
    found = snapdex.json("search", "refund failover container", "--filter", "document=notes/*")
    assert {hit["document"] for hit in found["hits"]} <= {"notes/glossary.txt", "notes/contacts.html"}
    assert found["hits"]
    nothing = snapdex.json("search", "xylophone", "--mode", "lexical")
    assert (nothing["abstained"], nothing["hits"]) == (True, [])


def test_an_edit_is_planned_as_it_is_done(snapdex, sources):
    path = sources / "guides/refunds.md"
    path.write_text(path.read_text("utf-8").replace("250 euros", "900 euros"), "utf-8")
    planned = snapdex.json("plan", sources)
    assert snapdex.json("log")[0]["version"] == 1
    ran = snapdex.json("run", sources, "--reason", "new limits")
    assert planned["changes"] == {"added": [], "modified": ["guides/refunds.md"], "removed": [], "renamed": []}
    assert (planned["documents"], planned["chunks"]) == (ran["documents"], ran["chunks"])
    assert planned["to_embed"] == ran["embedded"] == 1
    assert (ran["version"], ran["parent"], ran["published"]) == (2, 1, True)
    assert ran["parsed"] == 1


def test_diff_says_what_changed(snapdex):
    difference = snapdex.json("diff", "v1")
    assert difference["documents"]["modified"] == ["guides/refunds.md"]
    assert difference["chunks"] == {"added": 1, "removed": 1}
    assert "~ guides/refunds.md" in snapdex("diff", "v1", "v2").stdout


def refund_limit(snapdex, *words):
    hits = snapdex.json("search", "how much may a support agent refund?", "-k", "1", *words)["hits"]
    return hits[0]["text"]


def test_rollback_brings_the_old_text_back(snapdex):
    assert "900 euros" in refund_limit(snapdex)
    assert "250 euros" in refund_limit(snapdex, "--at", "v1")
    assert "active: v1 (was v2)" in snapdex("rollback", "--reason", "the limits were wrong").stdout
    assert "250 euros" in refund_limit(snapdex)
    assert "900 euros" in refund_limit(snapdex, "--at", "2")


def test_the_log_of_moves(snapdex):
    newest, *_, oldest = snapdex.json("log", "--moves")
    assert (newest["kind"], newest["version"], newest["previous"]) == ("rollback", 1, 2)
    assert newest["reason"] == "the limits were wrong"
    assert (oldest["kind"], oldest["version"], oldest["previous"]) == ("publish", 1, None)
    assert "the limits were wrong" in snapdex("log", "--moves").stdout


def test_a_run_does_not_undo_a_rollback(snapdex, sources):
    report = snapdex.json("run", sources)
    assert (report["version"], report["published"]) == (2, False)
    assert "snapdex publish 2" in report["note"]
    assert "250 euros" in refund_limit(snapdex)


def test_tags(snapdex):
    snapdex("tag", "good", "active")
    assert snapdex.json("log")[1]["tags"] == ["good"]
    assert "250 euros" in refund_limit(snapdex, "--at", "good")
    snapdex("tag", "good", "v2")
    assert snapdex.json("show", "good")["version"] == 2
    snapdex("untag", "good")
    snapdex("show", "good", code=6)


def test_publish_moves_forward_again(snapdex):
    assert snapdex.json("publish", "v2")["version"] == 2
    assert "900 euros" in refund_limit(snapdex)
    assert "v2" in snapdex("publish", "v2", code=5).error


def test_documents_are_written_out_byte_for_byte(snapdex, sources, original, tmp_path):
    snapdex("documents", "v1", tmp_path / "v1")
    snapdex("documents", "active", tmp_path / "v2")
    written = {
        str(path.relative_to(tmp_path / "v1")): path.read_bytes()
        for path in (tmp_path / "v1").rglob("*")
        if path.is_file()
    }
    assert written == original
    assert (tmp_path / "v2/guides/refunds.md").read_bytes() == (sources / "guides/refunds.md").read_bytes()
    snapdex("documents", "v1", tmp_path / "v2", code=3)


def test_every_version_verifies(snapdex):
    for version in ("v1", "v2"):
        assert snapdex.json("verify", version)["ok"]


def test_a_second_run_does_nothing_and_imports_nothing_heavy(snapdex, sources):
    before = snapdex.json("log")[0]
    program = (
        "import json, sys\n"
        "from pipelines.cli.__main__ import run\n"
        "code = run(['run', sys.argv[1], '--json'])\n"
        "print(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(sources)],
        cwd=snapdex.root,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    report, (code, modules) = map(json.loads, done.stdout.splitlines())
    assert (code, report["published"], report["parsed"], report["embedded"]) == (0, False, 0, 0)
    assert (report["version"], report["snapshot"]) == (before["version"], before["snapshot"])
    assert report["documents"]["unchanged"] == report["documents"]["total"] == 4
    assert set(HEAVY).isdisjoint(modules)


def test_no_publish_leaves_readers_alone(snapdex, sources, write_tree):
    write_tree(sources, {"guides/badges.md": "# Badges\n\nA badge opens the turnstile.\n"})
    report = snapdex.json("run", sources, "--no-publish")
    assert (report["version"], report["published"]) == (3, False)
    said = snapdex("run", sources, "--no-publish").stdout
    assert "  not published\n" in said and "publish it with: snapdex publish 3\n" in said
    assert snapdex.json("search", "turnstile", "--mode", "lexical")["hits"] == []
    assert snapdex.json("search", "turnstile", "--mode", "lexical", "--at", "v3")["hits"]
    assert snapdex.json("diff", "active", "v3")["documents"]["added"] == ["guides/badges.md"]
    snapdex("publish", "v3")
    assert snapdex.json("search", "turnstile", "--mode", "lexical")["version"] == 3
    assert "nothing changed\n" in snapdex("run", sources, "--no-publish").stdout


def test_the_same_content_by_another_way_has_the_same_id(new_workspace, snapdex, sources):
    other = new_workspace("elsewhere")
    assert other.json("run", sources)["snapshot"] == snapdex.json("show", "active")["snapshot"]


def test_indexes_are_apart_and_sources_are_joined(snapdex, sources, write_tree, tmp_path):
    tree = write_tree(tmp_path / "more", {"menu.md": "# Menu\n\nSoup on Monday.\n", "skip.log": "not wanted\n"})
    words = ("--index", "canteen", "--set", "collect.exclude=['*.log']")
    report = snapdex.json("run", tree, sources / "notes/glossary.txt", *words)
    assert (report["index"], report["version"], report["documents"]["total"]) == ("canteen", 1, 2)
    assert report["documents"]["excluded"] == 1
    found = snapdex.json("search", "soup", "--index", "canteen")
    assert (found["index"], found["hits"][0]["document"]) == ("canteen", "menu.md")
    assert {hit["document"] for hit in snapdex.json("search", "soup monday", "--mode", "lexical")["hits"]} == set()
    globbed = snapdex.json("run", f"{tree}/*.md", "--index", "globbed")
    assert globbed["documents"]["total"] == 1
    assert [version["version"] for version in snapdex.json("log")] == [3, 2, 1]


def test_a_git_revision_is_a_source(snapdex, write_tree, tmp_path):
    tree = write_tree(tmp_path / "repository", {"rules.md": "# Rules\n\nBe kind.\n"})
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -q -m one"):
        subprocess.run(["git", *command.split()], cwd=tree, check=True)
    (tree / "rules.md").write_text("# Rules\n\nNot committed.\n", "utf-8")
    report = snapdex.json("run", f"git+{tree}@HEAD", "--index", "rules")
    assert report["documents"]["total"] == 1
    assert "Be kind" in snapdex.json("search", "rules", "--index", "rules")["hits"][0]["text"]
