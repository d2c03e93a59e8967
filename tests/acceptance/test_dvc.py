"""`dvc repro`: nothing after a run, only what a change touches, and the same index on another machine."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from program import Snapdex

PERSON = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in {"NAME": "Tess", "EMAIL": "tess@example.org"}.items()
}
QUESTIONS = [
    {"_id": "promote", "question": "how do I promote the replica?", "documents": ["guides/failover.md"]},
    {"_id": "refund", "question": "how much may a support agent refund?", "documents": ["guides/refunds.md"]},
    {"_id": "cup", "question": "who won the cup?", "documents": [], "answerable": False},
]


def git(workspace, *words):
    return succeeded(["git", *words], workspace)


def dvc(workspace, *words):
    return succeeded([sys.executable, "-m", "dvc", *words], workspace)


def succeeded(command, workspace):
    done = ended(command, workspace)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ended(command, workspace):
    environment = workspace._environment() | PERSON
    return subprocess.run(command, cwd=workspace.root, env=environment, capture_output=True, text=True, check=False)


def repro(workspace, *words):
    """The stages that ran, each with what it reported; `words` may make it another command of DVC."""
    _, *parts = dvc(workspace, *(words or ("repro",))).split("Running stage '")
    ran = {}
    for part in parts:
        name, _, said = part.partition("'")
        report = next((line for line in said.splitlines() if line.startswith("{") and line != "{"), "null")
        ran[name] = json.loads(report)
    return ran


def plotted(workspace, name, *words):
    """The revisions that a plot shows values of."""
    (plot,) = json.loads(dvc(workspace, *words))["data"][f"data/metrics/handbook/{name}"]
    return {row["rev"] for row in plot["content"]["data"]["values"]}


def write_golden(root: Path, rows):
    (root / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.fixture(scope="module")
def sources(write_tree, handbook, tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("tree"), handbook)


@pytest.fixture(scope="module")
def recorded(template, sources, databases, tmp_path_factory):
    """A workspace in git whose first version is committed, and pushed to a DVC remote."""
    root = tmp_path_factory.mktemp("recorded") / "handbook"
    shutil.copytree(template, root)
    settings = f"[core]\nanalytics = false\nremote = store\n['remote \"store\"']\nurl = {root.parent / 'remote'}\n"
    (root / ".dvc" / "config").write_text(settings, "utf-8")
    with databases(empty=True) as url:
        workspace = Snapdex(root, {"SNAPDEX_DATABASE_URL": url})
        workspace.edit_params(lambda text: text.replace("minilm", "hash:64").replace("[]", f"[{sources}]"))
        write_golden(root, QUESTIONS)
        git(workspace, "init", "-q")
        workspace("run")
        dvc(workspace, "commit", "-f")
        dvc(workspace, "push")
        git(workspace, "add", ".")
        git(workspace, "commit", "-qm", "A version")
        yield workspace


@pytest.fixture
def clone(recorded, databases, tmp_path):
    """What somebody else has: a fresh clone, and a database in which there is nothing at all."""
    with databases(empty=True) as url:
        git(recorded, "clone", "-q", ".", tmp_path / "clone")
        yield Snapdex(tmp_path / "clone", {"SNAPDEX_DATABASE_URL": url})


@pytest.fixture
def clean(recorded):
    """The recorded workspace, and whatever a test changes in it is taken back."""
    yield recorded
    git(recorded, "checkout", "-q", ".")
    git(recorded, "clean", "-qfd")
    dvc(recorded, "checkout")
    dvc(recorded, "repro")


def test_after_a_run_there_is_nothing_to_do(recorded):
    assert "Data and pipelines are up to date" in dvc(recorded, "status")
    assert "Data and pipelines are up to date" in dvc(recorded, "repro")
    assert git(recorded, "status", "--porcelain") == ""


def test_another_machine_reaches_the_same_snapshot_and_embeds_nothing(recorded, clone):
    dvc(clone, "pull")
    ran = repro(clone)
    assert list(ran) == ["build"], "nothing is parsed, chunked, embedded or evaluated again"
    assert ran["build"]["loaded"] > 0
    here, there = clone.json("log"), recorded.json("log")
    assert [(v["version"], v["snapshot"]) for v in here] == [(v["version"], v["snapshot"]) for v in there]
    assert not here[0]["active"], "publishing is a decision of its own"
    assert clone.json("verify", "v1")["ok"]
    assert repro(clone) == {}
    assert list(repro(clone, "repro", "--force", "--single-item", "evaluate")) == ["evaluate"]
    assert git(clone, "status", "--porcelain") == "", "metrics are the same bytes on every machine"


def test_a_clone_that_was_not_pulled_pays_for_nothing(clone, handbook, write_tree, tmp_path):
    edited = handbook | {"guides/refunds.md": handbook["guides/refunds.md"] + "\nCoupons are refunded as coupons.\n"}
    sources = write_tree(tmp_path / "edited", edited)
    assert "missing data" in ended([sys.executable, "-m", "dvc", "repro"], clone).stderr
    assert "dvc pull" in clone("run", sources, code=3).hint
    assert git(clone, "status", "--porcelain") == "", "nothing was written that would be in the way of a pull"
    dvc(clone, "pull", "collect", "parse", "chunk")  # and not the vectors, which cost most
    assert "dvc pull" in clone("run", sources, code=3).hint
    assert not list(clone.root.glob("data/store/embeddings/**/*.parquet"))
    dvc(clone, "pull", "embed")
    report = clone.json("run", sources)
    assert (report["version"], report["embedded"]) == (2, 1)


def test_an_experiment_runs_what_its_parameter_touches_and_moves_no_reader(clean):
    before = clean.json("log")
    ran = repro(clean, "exp", "run", "-S", "chunk.max_tokens=32")
    assert list(ran) == ["chunk", "embed", "build", "evaluate"]
    built, active, *_ = clean.json("log")
    assert (active["active"], active["snapshot"]) == (True, before[0]["snapshot"])
    assert ran["embed"]["embedded"] == clean.json("diff", "v1", f"v{built['version']}")["chunks"]["added"] > 0
    assert ran["embed"]["reused"] > 0, "texts that are the same have their vectors"

    change = json.loads(dvc(clean, "metrics", "diff", "--json"))["data/metrics/handbook.json"]
    assert change["chunks"] == {"old": before[0]["chunks"], "new": built["chunks"], "diff": change["chunks"]["diff"]}
    assert change["tokens_max"]["new"] <= 32 < change["tokens_max"]["old"]
    assert change["snapshot"]["new"] == built["snapshot"][:12]
    for plot in ("queries.csv", "tokens.csv"):
        assert plotted(clean, plot, "plots", "diff", "--json") == {"HEAD", "workspace"}
    assert len(json.loads(dvc(clean, "exp", "show", "--json"))[1]["experiments"]) == 1

    report = clean.json("run", "--no-publish")
    assert (report["snapshot"], report["parsed"], report["embedded"]) == (built["snapshot"], 0, 0)

    git(clean, "checkout", "-q", ".")
    dvc(clean, "checkout")
    assert list(repro(clean)) == ["build"], "the database has been loaded with something else in the meantime"
    assert git(clean, "status", "--porcelain") == ""


def test_a_golden_set_runs_evaluate_alone(clean):
    write_golden(clean.root, [*QUESTIONS, {"question": "what is drayage?", "documents": ["notes/glossary.txt"]}])
    assert list(repro(clean)) == ["evaluate"]
    change = json.loads(dvc(clean, "metrics", "diff", "--json"))["data/metrics/handbook.json"]
    assert change["queries"] == {"old": len(QUESTIONS), "new": len(QUESTIONS) + 1, "diff": 1}
    assert "golden" in change
    assert "snapshot" not in change
    clean.edit_params(lambda text: text.replace("mode: hybrid", "mode: lexical"))
    assert list(repro(clean)) == ["evaluate"]
    write_golden(clean.root, [])
    assert repro(clean)["evaluate"]["queries"] == 0
    assert (clean.root / "data/metrics/handbook/queries.csv").read_text("utf-8") == "query,ndcg@10,recall@10,mrr@10\n"
    assert plotted(clean, "tokens.csv", "plots", "show", "--json") == {"workspace"}
