"""The evaluate flow: the active version on its golden set, beside what it was when it was made."""

from pathlib import Path
from urllib.parse import urlsplit

from pipelines.config import load_config
from pipelines.ingest import run


def test_it_compares_with_what_was_measured_and_tracks_it(workspace, snapdex, golden, api, mlflow_runs):
    from flows.evaluate import evaluate

    run(load_config(workspace.params), workspace)
    state = evaluate(str(workspace.root), return_state=True)
    report = state.result()
    (version,) = snapdex("log")
    assert report["metrics"]["ndcg@10"] == report["before"]["ndcg@10"] == version["metrics"]["ndcg@10"] == 0.5
    (tracked,) = mlflow_runs()
    assert tracked.info.run_id == report["mlflow_run"] == version["mlflow_run"]
    assert tracked.data.params == {"mode": "hybrid", "k": "10", "golden": "golden.jsonl"}
    assert tracked.data.tags["prefect_run"] == str(state.state_details.flow_run_id)
    assert tracked.data.tags["snapdex.snapshot"] == version["snapshot"]
    (dataset,) = (each.dataset for each in tracked.inputs.dataset_inputs)
    assert (dataset.name, len(dataset.digest)) == ("golden.jsonl", 32)
    kept = Path(urlsplit(tracked.info.artifact_uri).path) / "evaluation.html"
    assert "guides/nowhere.md" in kept.read_text("utf-8")
    assert report["missing_documents"] == ["guides/nowhere.md"]
    (page,) = api.artifacts("evaluate-handbook")
    assert "| ndcg@10 | 0.5 | 0.5 | +0.0000 |" in page
    assert "| what is drayage? | 0.00 | guides/nowhere.md |" in page and "notes/glossary.txt" in page
    assert "ndcg@10" in api.artifacts("drift-handbook")[0]

    (workspace.root / "other.jsonl").write_text(
        '{"question": "what is drayage?", "documents": ["notes/glossary.txt"]}\n', "utf-8"
    )
    assert evaluate(str(workspace.root), golden="other.jsonl")["metrics"]["ndcg@10"] == 1.0
    assert mlflow_runs()[0].data.params["golden"] == "other.jsonl"
    assert snapdex("log")[0]["mlflow_run"] == tracked.info.run_id

    state = evaluate(str(workspace.root), overrides=["gate.golden="], return_state=True)
    assert (state.is_completed(), state.name) == (True, "Skipped")
