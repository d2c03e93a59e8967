"""MLflow: a run for each version that has metrics, and one for each time that a version is evaluated again.

The only module that imports MLflow, and only when there is something to log: `MLFLOW_TRACKING_URI` says where. Without
it nothing is logged.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import ServiceUnavailable

PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}  # MLflow's own: minutes


@dataclass(frozen=True)
class Tracked:
    """A run of MLflow, and its page where there is a server."""

    run_id: str
    url: str | None


@dataclass(frozen=True)
class Dataset:
    """What metrics were measured on, as MLflow lists it among the inputs of a run."""

    name: str
    digest: str
    queries: int


def is_configured() -> bool:
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def track(
    experiment: str,
    name: str,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, Any],
    dataset: Dataset | None = None,
    pages: Mapping[str, str] | None = None,
) -> Tracked:
    """Log a finished run; tags without a value are left out. `pages`: texts to keep as artifacts, by file name.

    Raises `ServiceUnavailable` when MLflow does not take it.
    """
    for variable, value in {**PATIENCE, "MLFLOW_DISABLE_TELEMETRY": "true"}.items():
        os.environ.setdefault(variable, value)
    import mlflow
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException
    from mlflow.utils.time import get_current_time_millis

    uri = os.environ["MLFLOW_TRACKING_URI"]
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment, _artifacts(uri))
        named = {key: str(value) for key, value in tags.items() if value}
        run_id = client.create_run(experiment_id, run_name=name, tags=named).info.run_id
        now = get_current_time_millis()
        client.log_batch(
            run_id,
            metrics=[Metric(key.replace("@", "_at_"), float(value), now, 0) for key, value in sorted(metrics.items())],
            params=[Param(key, str(value)) for key, value in params.items()],
        )
        if dataset:
            client.log_inputs(run_id, [_input(dataset)])
        for file, text in (pages or {}).items():
            client.log_text(run_id, text, file)
        client.set_terminated(run_id)
    except (MlflowException, OSError) as error:
        raise ServiceUnavailable(
            f"MLflow at {_without_password(uri)} does not take the run: {' '.join(str(error).split())[:200]}",
            hint="check MLFLOW_TRACKING_URI; the version itself is not affected",
        ) from error
    page = f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}" if uri.startswith("http") else None
    return Tracked(run_id, page)


def _artifacts(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside a database in a file. MLflow would put them where we run now."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri else (Path(path).resolve().parent / "mlartifacts").as_uri()


def _input(dataset: Dataset) -> Any:
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    entity = Entity(
        name=dataset.name,
        digest=dataset.digest,
        source_type="local",
        source=json.dumps({"uri": dataset.name}),
        profile=json.dumps({"queries": dataset.queries}),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", "evaluation")])


def _without_password(uri: str) -> str:
    scheme, colon, rest = uri.partition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}"
