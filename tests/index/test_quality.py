"""What is measured of a version is of that version: its own sizes, whatever history and whichever database it is in."""

import json

import pytest

from pipelines import ingest, quality
from pipelines.errors import InputError, NotFoundError
from pipelines.evaluate import Query
from tests.conftest import Databases
from tests.index.state import State

SAME = "# Holidays\n\nThe office is closed on the first of May, and nobody answers the telephone.\n"


def files(state: State) -> dict[str, bytes]:
    root = state.root / "data/metrics"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*")}


def test_sizes_count_a_repeated_text_once(state: State) -> None:
    state.write({"a.md": SAME, "b.md": SAME, "c.md": "# Tea\n\nTea is at four."})
    metrics = state.run()["metrics"]
    assert (metrics["documents"], metrics["chunks"], metrics["duplicates"]) == (3, 2, 1)
    assert 0 < metrics["tokens_p5"] <= metrics["tokens_p50"] <= metrics["tokens_p95"] <= metrics["tokens_max"] <= 32
    assert metrics["queries"] == 0


def test_another_way_to_the_same_version_gives_the_same_bytes(
    state: State, databases: Databases, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = {"question": "when is the office closed?", "documents": ["a.md"]}
    (state.root / "golden.jsonl").write_text(json.dumps(golden) + "\n", "utf-8")
    gated = state.with_settings("gate.golden=golden.jsonl", "gate.tolerance=1.0")
    gated.write({"a.md": SAME, "b.md": "# Tea\n\nTea is at four.", "c.md": "# Coffee\n\nCoffee is always there."})
    gated.run()
    gated.path("c.md").unlink()
    gated.write({"b.md": "# Tea\n\nTea is at five, and there is cake."})
    metrics = gated.run()["metrics"]
    assert metrics["recall@10"] == 1.0
    assert not any("latency" in name for name in metrics)

    with databases() as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        other = State.make(tmp_path_factory.mktemp("other") / "workspace", url, "gate.golden=golden.jsonl")
        (other.root / "golden.jsonl").write_text(json.dumps(golden) + "\n", "utf-8")
        other.write({"a.md": SAME, "b.md": "# Tea\n\nTea is at five, and there is cake."})
        other.run()
        assert files(other) == files(gated)


def test_only_what_is_new_is_measured_again(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    state.write({"a.md": SAME})
    first = state.run()
    monkeypatch.setattr(ingest, "measure", None)  # calling it would fail
    assert state.run()["metrics"] == first["metrics"]


def test_metrics_of_another_version_are_not_taken_for_these(state: State) -> None:
    first = state.write({"a.md": SAME}).run()
    second = state.write({"b.md": "# Tea\n\nTea is at four."}).run()
    assert quality.measured(state.config, state.workspace, second["snapshot"]) == second["metrics"]
    assert quality.measured(state.config, state.workspace, first["snapshot"]) is None
    lexical = state.with_settings("search.mode=lexical")
    assert quality.measured(lexical.config, state.workspace, second["snapshot"]) is None


def test_a_database_with_something_else_under_that_number_is_refused(state: State) -> None:
    with pytest.raises(NotFoundError, match="no version was built"):
        quality.measure_built(state.config, state.workspace)
    state.write({"a.md": SAME}).run()
    with pytest.raises(NotFoundError, match="is not the snapshot") as caught:
        quality.measure(state.config, state.workspace, 1, "0" * 64)
    assert "build" in caught.value.hint


def test_a_golden_set_that_cannot_be_read_stops_a_run_at_once(state: State) -> None:
    gated = state.write({"a.md": SAME}).with_settings("gate.golden=golden.jsonl")
    with pytest.raises(InputError, match=r"there is no golden set .*golden\.jsonl"):
        gated.run()
    assert not (state.root / "data/manifests").exists()


def test_documents_that_a_version_does_not_have_are_named(state: State) -> None:
    state.write({"a.md": SAME}).run()
    queries = [Query("1", "closed?", {"a.md": 1}), Query("2", "tea?", {"b.md#cake": 1, "a.md#Holidays": 1})]
    assert quality.missing_from(state.config, state.workspace, queries, 1) == ["b.md"]
