"""SNAPDEX_LOG=json: what a log shipper reads from stderr."""

import json

import pytest

WORD = "zqxcanary"  # of a document: it has no business in a log


@pytest.fixture(scope="module")
def snapdex(new_workspace, handbook, write_tree, tmp_path_factory):
    snapdex = new_workspace("logs")
    snapdex.sources = write_tree(
        tmp_path_factory.mktemp("tree"), handbook | {"secret.md": f"# S\n\nThe {WORD} sings.\n"}
    )
    snapdex.environment["SNAPDEX_LOG"] = "json"
    return snapdex


def events(ending):
    assert WORD not in ending.stderr
    found = [json.loads(line) for line in ending.stderr.splitlines()]
    ids = {"at", "level", "event", "index", "version", "snapshot", "prefect_run", "mlflow_run"}
    assert all(each.keys() >= ids for each in found)
    return found


def test_each_stage_and_the_run_leave_a_line_that_leads_to_the_version(snapdex):
    ending = snapdex.ending("run", snapdex.sources, "--json")
    *stages, run = events(ending)
    assert [each["stage"] for each in stages] == ["collect", "parse", "chunk", "embed", "build", "evaluate", "publish"]
    assert all((each["event"], each["index"]) == ("stage.finished", "handbook") for each in stages)
    assert all(each["seconds"] >= 0 for each in stages)
    assert (stages[0]["added"], stages[1]["parsed"], stages[0]["version"]) == (5, 5, None)
    report = json.loads(ending.stdout)
    assert (run["event"], run["level"], run["published"]) == ("run.finished", "info", True)
    assert run["seconds"] == report["seconds"]["total"]
    (version,) = json.loads(snapdex.ending("log", "--json").stdout)
    for each in (stages[-1], run):
        assert {name: each[name] for name in ("version", "snapshot", "prefect_run", "mlflow_run")} == {
            name: version[name] for name in ("version", "snapshot", "prefect_run", "mlflow_run")
        }


def test_an_error_is_one_line_with_its_exit_code(snapdex):
    ending = snapdex.ending("run", snapdex.root / "nowhere")
    (failed,) = events(ending)
    assert (failed["event"], failed["level"], failed["index"]) == ("failed", "error", "handbook")
    assert failed["exit_code"] == ending.code == 3
    assert "nowhere" in failed["error"] and failed["hint"]
    ending = snapdex.ending("search")
    assert (events(ending)[0]["exit_code"], ending.code) == (2, 2)


def test_a_query_is_not_logged(snapdex):
    ending = snapdex.ending("search", f"what does the {WORD} do?", "--mode", "lexical")
    assert (ending.code, events(ending)) == (0, [])


def test_another_value_is_refused(snapdex):
    snapdex.environment["SNAPDEX_LOG"] = "xml"
    try:
        assert "SNAPDEX_LOG" in snapdex("log", code=2).error
    finally:
        snapdex.environment["SNAPDEX_LOG"] = "json"
