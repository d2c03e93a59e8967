"""A run for each version that has metrics, and one for each time that a version is evaluated again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.errors import ServiceUnavailable
from pipelines.tracking.client import experiment_id, open_client, page_of, said_by, tracking_uri, without_password


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


def track(
    experiment: str,
    name: str,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, Any],
    dataset: Dataset | None = None,
    pages: Mapping[str, str] | None = None,
    parent: str = "",
) -> Tracked:
    """Log a finished run; tags without a value are left out. `pages`: texts to keep as artifacts, by file name;
    `parent`: the id of the run that it is a part of.

    Raises `ServiceUnavailable` when MLflow does not take it.
    """
    uri = tracking_uri()
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
    from mlflow.utils.time import get_current_time_millis

    try:
        client = open_client()
        experiment_number = experiment_id(client, experiment)
        named = {key: str(value) for key, value in {**tags, MLFLOW_PARENT_RUN_ID: parent}.items() if value}
        run_id = client.create_run(experiment_number, run_name=name, tags=named).info.run_id
        now = get_current_time_millis()
        client.log_batch(
            run_id,
            metrics=[Metric(metric_name(key), float(value), now, 0) for key, value in sorted(metrics.items())],
            params=[Param(key, str(value)) for key, value in params.items()],
        )
        if dataset:
            client.log_inputs(run_id, [_input(dataset)])
        for file, text in (pages or {}).items():
            client.log_text(run_id, text, file)
        client.set_terminated(run_id)
    except (MlflowException, OSError) as error:
        raise ServiceUnavailable(
            f"MLflow at {without_password(uri)} does not take the run: {said_by(error)}",
            hint="check MLFLOW_TRACKING_URI; the version itself is not affected",
        ) from error
    return Tracked(run_id, page_of(uri, experiment_number, run_id))


def metric_name(name: str) -> str:
    """MLflow takes no `@`."""
    return name.replace("@", "_at_")


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
