"""What a run came from: tags that lead back to code, data, index and machine."""

import subprocess
from pathlib import Path

import pytest

from pipelines.errors import ConfigError
from pipelines.files import Workspace
from pipelines.tracking import system_metrics
from pipelines.tracking.provenance import dvc_md5, provenance

LOCK = """
schema: '2.0'
stages:
  pairs:
    cmd: python -m pipelines.pairs
    outs:
    - {path: data/pairs, md5: 0123456789abcdef0123456789abcdef.dir, size: 10}
    - {path: data/plain.tsv, hash: md5, md5: fedcba9876543210fedcba9876543210}
  empty: {cmd: x}
"""


def git(root: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True).stdout


def test_tags_lead_to_commit_data_index_and_machine(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert "git_commit" not in provenance(workspace)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "dvc.lock")
    assert "git_commit" not in provenance(workspace), "no commit yet"
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "untracked").write_text("x")
    tags = provenance(workspace, index="handbook", version=0, snapshot="ab", data="data/pairs/", prefect_run="p")
    assert (tags["git_commit"], tags["git_dirty"]) == (git(tmp_path, "rev-parse", "HEAD").strip(), "false")
    assert tags["mlflow.source.git.commit"] == tags["git_commit"]
    assert tags["dvc_md5"] == "0123456789abcdef0123456789abcdef.dir"
    assert (tags["snapdex.index"], tags["snapdex.version"], tags["prefect_run"]) == ("handbook", "0", "p")
    assert {"python", "platform", "package.mlflow", "package.sentence-transformers"} <= tags.keys()
    (tmp_path / "dvc.lock").write_text(LOCK + "# edited\n")
    assert provenance(workspace)["git_dirty"] == "true"


def test_the_hash_of_an_output_is_in_the_lock_or_nowhere(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert dvc_md5(workspace, "data/pairs") is None
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert dvc_md5(workspace, "data/plain.tsv") == "fedcba9876543210fedcba9876543210"
    assert dvc_md5(workspace, "data/other") is None
    (tmp_path / "dvc.lock").write_text("a: [")
    with pytest.raises(ConfigError, match="not YAML"):
        dvc_md5(workspace, "data/pairs")


def test_system_metrics_have_the_names_of_mlflow() -> None:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    theirs = set()
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor()):
        monitor.collect_metrics()
        theirs |= {f"system/{name}" for name in monitor.aggregate_metrics()}
    ours = system_metrics()
    assert set(ours) == theirs
    assert 0 < ours["system/system_memory_usage_percentage"] <= 100
