"""Runs that are interrupted, killed or doubled: what was done is kept, and the next run goes on from there."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

SEED = 20250601
KILLS = 5


@pytest.fixture(scope="module")
def pages():
    """Enough documents for a run of some seconds."""
    words = random.Random(SEED)
    return {
        f"part-{number % 7}/page-{number:03}.md": f"# Page {number}\n\n"
        + "".join(f"## Step {step}\n\nTurn valve {words.randrange(10**6)} until it holds.\n\n" for step in range(20))
        for number in range(250)
    }


def signal_when(process, begun, number):
    """Send a signal to the whole session of `process` as soon as `begun()` holds."""
    deadline = time.monotonic() + 60
    while not begun():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, number)


def left_over(session):
    """Processes of a session that still live."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = status.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state != "Z":
            found.append(status.parent.name)
    return found


def test_control_c_ends_a_run_and_the_next_goes_on(new_workspace, write_tree, pages, tmp_path):
    snapdex = new_workspace("interrupt")
    tree = write_tree(tmp_path, pages)
    snapdex("db", "start")
    process = snapdex.start("run", tree)
    signal_when(process, lambda: list(snapdex.root.glob("data/store/documents/*.parquet")), signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"], err
    assert left_over(process.pid) == []
    report = snapdex.json("run", tree)
    assert (report["version"], report["published"], report["documents"]["total"]) == (1, True, len(pages))
    assert snapdex.json("verify")["ok"]


def test_a_terminated_run_says_so_and_the_next_goes_on(new_workspace, write_tree, pages, tmp_path):
    snapdex = new_workspace("terminate")
    tree = write_tree(tmp_path, pages)
    snapdex("db", "start")
    process = snapdex.start("run", tree)
    signal_when(process, lambda: list(snapdex.root.glob("data/store/documents/*.parquet")), signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"], err
    assert snapdex.json("run", tree)["documents"]["total"] == len(pages)


def test_of_two_runs_at_once_one_is_refused(new_workspace, write_tree, pages, tmp_path):
    snapdex = new_workspace("twice")
    tree = write_tree(tmp_path, pages)
    snapdex("db", "start")
    both = [snapdex.start("run", tree) for _ in range(2)]
    ends = sorted((process.wait(120), *process.communicate()) for process in both)
    assert [code for code, _, _ in ends] == [0, 5], ends
    assert ends[1][2].startswith("error: another run works in this workspace\nhint: ")
    assert len(snapdex.json("log")) == 1
    assert snapdex.json("verify")["ok"]


def test_killed_runs_leave_nothing_that_stops_the_next(new_workspace, write_tree, pages, tmp_path):
    snapdex = new_workspace("killed")
    tree = write_tree(tmp_path / "tree", pages)
    first = snapdex.json("run", tree)
    choose = random.Random(SEED)
    survived = []
    for attempt in range(KILLS):
        changed = choose.sample(sorted(pages), 80)
        for name in changed:
            path = tree / name
            path.write_text(path.read_text("utf-8") + f"\nAttempt {attempt} was here.\n", "utf-8")
        process = snapdex.start("run", tree)
        time.sleep(choose.uniform(0.6, 3.0))
        process.kill()  # only this one: its workers have to notice by themselves
        survived.append(process.wait(10) == 0)
        process.communicate()
        active = snapdex.json("show", "active")
        assert survived[-1] or active["version"] >= 1
        assert snapdex.json("verify")["ok"], f"seed {SEED}, attempt {attempt}"
        deadline = time.monotonic() + 15
        while left_over(process.pid):
            assert time.monotonic() < deadline, f"workers of a killed run live on: seed {SEED}, attempt {attempt}"
            time.sleep(0.1)
    assert not all(survived), "every run was over before it was killed"
    report = snapdex.json("run", tree)
    assert report["documents"]["total"] == len(pages)
    newest = snapdex.json("log")[0]
    assert newest["active"]
    assert newest["snapshot"] == report["snapshot"] != first["snapshot"]
    assert all(snapdex.json("verify", version["version"])["ok"] for version in snapdex.json("log"))
    assert new_workspace("undisturbed").json("run", tree)["snapshot"] == report["snapshot"]
