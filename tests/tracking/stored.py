"""What an MLflow store holds of a run, without the ids and times that differ from one run to the next."""

import hashlib
from pathlib import Path
from typing import Any

from pipelines.tracking.registry import JOURNAL


def content(client: Any, experiment: str, model: str) -> dict[str, Any]:
    """Everything below an experiment and a registered model, comparable between two replays."""
    number = client.get_experiment_by_name(experiment).experiment_id
    return {
        "runs": [_run(client, run) for run in client.search_runs([number])],
        "models": [_model(client, each) for each in client.search_logged_models([number])],
        "versions": [_version(each) for each in client.search_model_versions(f"name = '{model}'")],
        "aliases": aliases(client, model),
    }


def aliases(client: Any, model: str) -> dict[str, str]:
    """A database gives numbers, a server texts."""
    return {alias: str(version) for alias, version in client.get_registered_model(model).aliases.items()}


def _run(client: Any, run: Any) -> dict[str, Any]:
    run_id = run.info.run_id
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "tags": {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
        | {JOURNAL: ""},
        "metrics": {
            name: [(each.step, each.timestamp, str(each.value)) for each in client.get_metric_history(run_id, name)]
            for name in sorted(run.data.metrics)
        },
        "inputs": [
            (each.dataset.name, each.dataset.digest, each.dataset.profile, [(tag.key, tag.value) for tag in each.tags])
            for each in run.inputs.dataset_inputs
        ],
        "outputs": len(run.outputs.model_outputs) if run.outputs else 0,
        "artifacts": _files(run.info.artifact_uri),
    }


def _model(client: Any, model: Any) -> dict[str, Any]:
    versions = model.tags.get("mlflow.modelVersions", "").count("version")
    return {"status": str(model.status), "files": _files(model.artifact_location), "versions": versions}


def _version(version: Any) -> dict[str, Any]:
    tags = {name: value for name, value in version.tags.items() if name != JOURNAL}
    return {"version": int(version.version), "description": version.description, "tags": tags}


def _files(uri: str) -> dict[str, str]:
    root = Path(uri.removeprefix("file://"))
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }
