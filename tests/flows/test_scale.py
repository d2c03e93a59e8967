"""The same index, whichever workers parse and embed: threads, processes, or a Dask cluster that loses a worker."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

DOCUMENTS = 24
SPREAD = ["flow.batch_documents=4", "flow.workers=2"]


@pytest.fixture
def handbook(workspace):
    """The workspace with a few dozen documents, one of which cannot be parsed."""
    for number in range(DOCUMENTS):
        text = "".join(f"\n\n## Part {part}\n\nRule {number} of part {part}: {'word ' * 30}" for part in range(24))
        (workspace.root / "docs" / f"page-{number:02}.md").write_text(f"# Page {number}{text}\n", "utf-8")
    (workspace.root / "docs" / "broken.docx").write_bytes(b"PK\x03\x04 is not a document")
    return workspace


def counts(report):
    return {name: report[name] for name in ("snapshot", "parsed", "embedded", "documents", "chunks", "quarantined")}


@pytest.fixture
def by_one_process(handbook):
    from flows.ingest import ingest

    return counts(ingest(str(handbook.root), overrides=["index.name=alone"]))


def of_another_index(workspace, name, *overrides):
    """The counts of a run that shares no store with the runs before."""
    from flows.ingest import ingest

    for directory in (workspace.root / "data" / "store").iterdir():
        for segment in directory.rglob("*.parquet"):
            segment.unlink()
    return counts(ingest(str(workspace.root), overrides=[f"index.name={name}", *SPREAD, *overrides]))


def check_a_dask_worker_that_dies_costs_its_batch_and_nothing_else(handbook, by_one_process):
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        elements = handbook.root / "data" / "store" / "elements"

        def kill():
            while not any(elements.glob("*.parquet")):  # until one batch is done
                time.sleep(0.01)
            os.kill(victim, signal.SIGKILL)

        for segment in (handbook.root / "data" / "store").rglob("*.parquet"):
            segment.unlink()
        killer = threading.Thread(target=kill)
        killer.start()
        found = of_another_index(handbook, "dask", "flow.runner=dask", f"flow.address={cluster.scheduler_address}")
        killer.join()
    for done in ("parsed", "embedded"):  # a batch that was stored and not reported yet is there when it is done again
        assert 0 < found.pop(done) <= by_one_process.pop(done)
    assert found == by_one_process


def test_workers_make_no_difference(handbook, by_one_process):
    assert by_one_process["parsed"] == DOCUMENTS + 3
    assert by_one_process["embedded"] > 100
    assert [each["document"] for each in by_one_process["quarantined"]] == ["broken.docx"]
    for runner in ("threads", "processes"):
        assert of_another_index(handbook, runner, f"flow.runner={runner}") == by_one_process
    check_a_dask_worker_that_dies_costs_its_batch_and_nothing_else(handbook, by_one_process)


def test_batches_do_the_work_and_not_the_stage(handbook, monkeypatch):
    from pipelines import chunk, collect, embed, parse
    from pipelines.config import load_config

    config = load_config(handbook.params, SPREAD)
    collect.run(config, handbook)
    parsed = [parse.parse_batch(config, handbook, batch) for batch in parse.batches(config, handbook)]
    assert len(parsed) == 7
    assert parse.run(config, handbook, done=parsed).parsed == DOCUMENTS + 3
    chunk.run(config, handbook)
    embedded = [embed.embed_batch(config, handbook, batch) for batch in embed.batches(config, handbook)]
    assert len(embedded) > 1
    monkeypatch.setattr(embed, "load_encoder", None)  # whoever encodes now fails
    assert embed.run(config, handbook, done=embedded).embedded == sum(each.embedded for each in embedded)
    assert not embed.batches(config, handbook)
    assert not parse.batches(config, handbook)


def test_processes_end_with_a_flow_that_is_killed(handbook):
    from prefect.settings import PREFECT_API_URL

    settings = [f"--set={each}" for each in (*SPREAD, "flow.runner=processes")]
    command = [sys.executable, "-m", "flows.ingest", "--home", handbook.root, *settings]
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as flow:
        family = psutil.Process(flow.pid)
        give_up = time.monotonic() + 180
        while not any("pipelines.parse.worker" in line_of(each) for each in family.children(recursive=True)):
            assert flow.poll() is None and time.monotonic() < give_up
            time.sleep(0.02)
        orphans = [each for each in family.children(recursive=True) if "postgres" not in line_of(each)]
        flow.kill()
    assert len(orphans) >= 3  # two that take batches, and one that parses
    _, alive = psutil.wait_procs(orphans, timeout=10)
    left = [line_of(each) for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    for each in alive:
        each.kill()
    assert left == []


def line_of(process):
    """The command line of a process, empty where it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_runner_that_is_not_installed_says_what_to_install(handbook, monkeypatch):
    import sys

    from flows import scale
    from pipelines.config import FlowConfig
    from pipelines.errors import ConfigError

    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    with pytest.raises(ConfigError) as caught:
        scale.runner_of(FlowConfig(runner="ray"))
    assert "snapdex[ray]" in caught.value.hint
