"""`dvc repro` in a workspace: nothing after a run, and from the changed stage on after a change of parameters."""

import subprocess
import sys

import pytest
from program import clean_environment


@pytest.fixture(scope="module")
def snapdex(new_workspace, write_tree, handbook, tmp_path_factory):
    sources = write_tree(tmp_path_factory.mktemp("tree"), handbook)
    workspace = new_workspace("dvc")
    workspace.edit_params(lambda text: text.replace("sources: []", f"sources: [{sources}]"))
    workspace("run")
    dvc(workspace, "commit", "-f")
    return workspace


def dvc(snapdex, *words):
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=snapdex.root,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stages_run(said):
    return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]


def test_after_a_run_everything_is_up_to_date(snapdex):
    assert "up to date" in dvc(snapdex, "status")
    assert stages_run(dvc(snapdex, "repro")) == []


def test_a_parameter_runs_its_stage_and_what_follows(snapdex):
    before = snapdex.json("log")
    snapdex.edit_params(lambda text: text.replace("max_tokens: 256", "max_tokens: 64"))
    assert stages_run(dvc(snapdex, "repro")) == ["chunk", "embed", "build"]
    assert stages_run(dvc(snapdex, "repro")) == []
    built, active = snapdex.json("log")
    assert (built["active"], active["active"], active["snapshot"]) == (False, True, before[0]["snapshot"])
    report = snapdex.json("run")
    assert (report["version"], report["snapshot"], report["published"]) == (2, built["snapshot"], True)
    assert (report["parsed"], report["embedded"]) == (0, 0)


def test_the_workspace_goes_back_with_its_parameters(snapdex):
    first = snapdex.json("log")[-1]["snapshot"]
    snapdex.edit_params(lambda text: text.replace("max_tokens: 64", "max_tokens: 256"))
    assert stages_run(dvc(snapdex, "repro")) == ["chunk", "embed", "build"]
    manifest = (snapdex.root / "data/manifests/handbook/snapshot.tsv").read_text("utf-8")
    assert first in manifest
