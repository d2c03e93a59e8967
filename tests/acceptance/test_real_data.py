"""A real documentation tree at six dates (375 to 1,019 documents): what changed is known, and must be what is done."""

import csv
import json
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

DATES = ("2025-06-01", "2025-07-01", "2026-05-01", "2026-06-01", "2026-07-01", "2026-08-01")
PLANNED = (DATES[1], DATES[-1])  # a plan takes as long as a run
QUERIES = ("how do I deploy a flow to Kubernetes?", "task retries and caching", "webhooks")
SEED = 7

if "SNAPDEX_TEST_DATA" not in os.environ:
    pytest.skip("SNAPDEX_TEST_DATA does not name the folder with the real test data", allow_module_level=True)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The unpacked tree of each date, and the archive's own list of changes between two dates."""
    place = tmp_path_factory.mktemp("data")
    unpack = Path(os.environ["SNAPDEX_TEST_DATA"]) / "tools" / "unpack-data"
    subprocess.run(["bash", unpack, place, "docs-prefect"], check=True)
    for date in DATES:
        with tarfile.open(place / "docs-prefect" / f"snap-{date}.tar.xz") as archive:
            archive.extractall(place / date, filter="data")
    return place


def documents_in(tree):
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}


def changes_between(trees, before, after):
    """{status: paths}: rows A, D and M are complete by path, renames only hint at similarity."""
    with (trees / "docs-prefect" / f"changes-{before}..{after}.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {status: sorted(row["path"] for row in rows if row["status"] == status) for status in "ADM"}


@pytest.fixture(scope="module")
def history(new_workspace, trees):
    """All dates one after the other through one source path: (workspace, [(date, plan, report)])."""
    snapdex = new_workspace("six")
    source = trees / "current"
    story = []
    for date in DATES:
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(trees / date, source)
        words = (source, "--allow-mass-delete")
        plan = snapdex.json("plan", *words) if date in PLANNED else None
        story.append((date, plan, snapdex.json("run", *words)))
    snapdex.source = source
    return snapdex, story


def test_each_version_has_exactly_the_documents_of_its_date(history, trees):
    snapdex, story = history
    for number, (date, _, report) in enumerate(story, 1):
        assert (report["version"], report["published"]) == (number, True)
        listed = snapdex.json("show", f"v{number}", "--documents")["document_list"]
        assert {each["document"] for each in listed} == documents_in(trees / date)
        assert report["documents"]["total"] == len(listed)
        assert report["documents"]["quarantined"] == 0


def test_what_was_done_is_what_changed(history, trees):
    snapdex, story = history
    for number in range(1, len(DATES)):
        expected = changes_between(trees, DATES[number - 1], DATES[number])
        told = snapdex.json("diff", f"v{number}", f"v{number + 1}")["documents"]
        assert told["modified"] == expected["M"]
        assert sorted(told["added"] + [new for _, new in told["renamed"]]) == expected["A"]
        assert sorted(told["removed"] + [old for old, _ in told["renamed"]]) == expected["D"]
        counted = story[number][2]["documents"]
        for name in ("added", "modified", "removed", "renamed"):
            assert counted[name] == len(told[name])
        assert counted["unchanged"] + counted["added"] + counted["modified"] + counted["renamed"] == counted["total"]


def test_the_plan_was_what_the_run_did(history):
    planned = [each for each in history[1] if each[0] in PLANNED]
    assert len(planned) == len(PLANNED)
    for date, plan, report in planned:
        assert plan["documents"] == report["documents"], date
        assert plan["chunks"] == report["chunks"], date
        assert plan["to_embed"] == report["embedded"], date


def test_a_search_of_a_version_sees_that_version_only(history, trees):
    snapdex, _ = history
    for number, date in enumerate(DATES, 1):
        present = documents_in(trees / date)
        for mode, query in zip(("hybrid", "dense", "lexical"), QUERIES, strict=True):
            found = snapdex.json("search", query, "--at", f"v{number}", "--mode", mode, "-k", "8")
            assert found["version"] == number
            assert found["hits"]
            for hit in found["hits"]:
                assert hit["document"] in present
                text = (trees / date / hit["document"]).read_text("utf-8")
                assert hit["text"] == text[hit["start"] : hit["end"]]


def test_every_version_verifies(history):
    assert all(history[0].json("verify", f"v{number}")["ok"] for number in range(1, len(DATES) + 1))


def test_the_id_does_not_depend_on_the_way(history, new_workspace, trees):
    alone = new_workspace("the-last-date-alone-elsewhere")
    report = alone.json("run", trees / DATES[-1])
    assert report["snapshot"] == history[1][-1][2]["snapshot"]
    assert report["chunks"]["total"] == history[1][-1][2]["chunks"]["total"]


def test_moving_copying_and_reverting_cost_no_embedding(history):
    snapdex, _ = history
    tree, choose = snapdex.source, random.Random(SEED)
    names = choose.sample(sorted(documents_in(tree)), 12)
    (tree / names[0]).rename(tree / "renamed.mdx")
    for name in names[1:11]:
        shutil.copy(tree / name, tree / f"copy-of-{Path(name).name}")
    edited = tree / names[11]
    before = edited.read_text("utf-8")
    report = snapdex.json("run", tree)
    assert (report["embedded"], report["parsed"]) == (0, 0)
    assert (report["documents"]["renamed"], report["documents"]["added"]) == (1, 10)
    edited.write_text(before + "\n\nA sentence that nobody wrote before.\n", "utf-8")
    assert snapdex.json("run", tree)["embedded"] >= 1
    edited.write_text(before, "utf-8")
    reverted = snapdex.json("run", tree)
    assert (reverted["embedded"], reverted["documents"]["modified"]) == (0, 1)
    assert reverted["snapshot"] == report["snapshot"]


def test_an_edit_embeds_what_it_touches(history):
    snapdex, _ = history
    tree, choose = snapdex.source, random.Random(SEED + 1)
    long = [name for name in sorted(documents_in(tree)) if 4000 < (tree / name).stat().st_size < 40_000]
    edited = choose.sample(long, 20)
    for name in edited:
        paragraphs = (tree / name).read_text("utf-8").split("\n\n")
        plain = [i for i, text in enumerate(paragraphs) if i > 2 and text[:1].isalpha() and "\n" not in text]
        paragraphs[choose.choice(plain or [len(paragraphs) - 1])] += " One more plain sentence."
        (tree / name).write_text("\n\n".join(paragraphs), "utf-8")
    report = snapdex.json("run", tree)
    assert report["documents"]["modified"] == report["parsed"] == 20
    assert 1 <= report["embedded"] <= 2 * 20


def test_a_paragraph_at_the_top_moves_nothing_else(history):
    snapdex, _ = history
    tree = snapdex.source
    longest = max(documents_in(tree), key=lambda name: (tree / name).stat().st_size)
    head, line, rest = (tree / longest).read_text("utf-8").partition("\n---\n")
    assert line, "the document begins with front matter"
    (tree / longest).write_text(f"{head}{line}\nThis paragraph is new, and stands before all others.\n{rest}", "utf-8")
    assert 1 <= snapdex.json("run", tree)["embedded"] <= 3


def test_an_emptied_source_stops_the_run_and_the_active_version_serves(history):
    snapdex, _ = history
    before = snapdex.json("show", "active")["snapshot"]
    shutil.rmtree(snapdex.source)
    snapdex.source.mkdir()
    for command in ("plan", "run"):
        assert "--allow-mass-delete" in snapdex(command, snapdex.source, code=3).hint
    assert snapdex.json("show", "active")["snapshot"] == before
    assert snapdex.json("search", QUERIES[0])["hits"]
    assert json.loads(snapdex("verify", "--json").stdout)["ok"]
