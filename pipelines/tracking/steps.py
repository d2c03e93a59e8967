"""What each record of a journal becomes in MLflow. Every step can be done again and changes nothing then.

MLflow alone would not see to that: a run is created twice, a version is registered twice, and the link from a run to
its model is refused the second time. What a store keeps once by itself, parameters, tags, artifacts, and metrics that
are equal in key, step, time and value (the primary key of its SQL stores), is sent again without a look.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import IntegrityError
from pipelines.tracking.client import experiment_id
from pipelines.tracking.journal import MODEL, Record, stored
from pipelines.tracking.registry import JOURNAL, Promotion, promote_with, register

BATCH = {"params": 100, "tags": 100, "metrics": 1000}  # MLflow's limits for a request
DIGEST_LENGTH = 36  # of a data set; its whole digest is in the profile
MODEL_TYPE = "embedding"


class Deleted(Exception):
    """Somebody deleted the run in MLflow: it is not made again."""


class Run:
    """A run of MLflow, as far as a journal tells it."""

    def __init__(
        self, client: Any, directory: Path, first: Record, run_id: str | None, versions: Mapping[str, str]
    ) -> None:
        """Find the run, or create it. `run_id` and `versions`: what it was the last time; another store knows neither.

        Raises `Deleted`.
        """
        self.client = client
        self.directory = directory
        self.key = str(first["key"])
        self.uncertain = True  # whether the last batch of metrics may be there although nobody noted it
        self.promotion: Promotion | None = None
        known = self._known(run_id)
        info = known or self._found(first) or self._created(first)
        self.run_id, self.experiment_id = str(info.run_id), str(info.experiment_id)
        self.is_known = known is not None  # whether what was sent the last time was sent to this run
        self.versions = dict(versions) if known else {}  # of registered models, by name

    def do(self, records: Sequence[Record]) -> None:
        """Records of one kind that follow each other, at most as many as `batches` puts together."""
        kind, record = records[0]["kind"], records[0]
        if kind in BATCH:
            self._log(kind, records)
        elif kind == "dataset":
            self.client.log_inputs(self.run_id, [_dataset(record)])
        elif kind == "file":
            self._upload(record)
        elif kind == "model":
            self._log_model()
        elif kind == "register":
            self._register(record)
        elif kind == "promote":
            version = self.versions[record["model"]]
            self.promotion = promote_with(self.client, record["model"], version, record["against"])
        elif kind == "finish":
            self.client.set_terminated(self.run_id, record["status"], record["at"])
        elif kind == "reopen":
            self.client.update_run(self.run_id, "RUNNING")

    # -- the run -------------------------------------------------------------------------------------------------------

    def _known(self, run_id: str | None) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id) if run_id else None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return _alive(run.info) if run and run.data.tags.get(JOURNAL) == self.key else None

    def _found(self, first: Record) -> Any:
        """The run with the tag of this journal; of two, which a lost answer can leave, always the same one."""
        from mlflow.entities import ViewType

        experiment = experiment_id(self.client, first["experiment"])
        runs = self.client.search_runs([experiment], f"tags.`{JOURNAL}` = '{self.key}'", ViewType.ALL)
        alive = sorted((run.info for run in runs if run.info.lifecycle_stage == "active"), key=lambda info: info.run_id)
        for twice in alive[1:]:
            self.client.delete_run(twice.run_id)
        return alive[0] if alive else (_alive(runs[0].info) if runs else None)

    def _created(self, first: Record) -> Any:
        experiment = experiment_id(self.client, first["experiment"])
        self.client.create_run(experiment, first["at"], tags={JOURNAL: self.key}, run_name=first["name"])
        return self._found(first)

    # -- what is in it -------------------------------------------------------------------------------------------------

    def _log(self, kind: str, records: Sequence[Record]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        if kind == "metrics":
            metrics = [
                Metric(name, value, record["at"], record["step"])
                for record in records
                for name, value in record["values"].items()
            ]
            self._log_metrics(metrics)
            return
        entity = Param if kind == "params" else RunTag
        entities = [entity(name, value) for name, value in records[0]["values"].items()]
        for start in range(0, len(entities), BATCH[kind]):
            self.client.log_batch(self.run_id, **{kind: entities[start : start + BATCH[kind]]})

    def _log_metrics(self, metrics: list[Any]) -> None:
        """The first ones after a start may be there: a journal has no two of one step, so key and step tell."""
        if self.uncertain:
            history = {name: self.client.get_metric_history(self.run_id, name) for name in {m.key for m in metrics}}
            there = {(name, each.step) for name, values in history.items() for each in values}
            metrics = [metric for metric in metrics if (metric.key, metric.step) not in there]
            self.uncertain = False
        for start in range(0, len(metrics), BATCH["metrics"]):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + BATCH["metrics"]])

    def _upload(self, record: Record) -> None:
        path = stored(self.directory, record)
        if not path.is_file():
            raise IntegrityError(f"{path} is missing in the journal", hint="delete its directory: the run is lost")
        folder = str(record["name"]).rpartition("/")[0]
        self.client.log_artifact(self.run_id, str(path), folder or None)

    # -- the model -----------------------------------------------------------------------------------------------------

    def _log_model(self) -> None:
        from mlflow.entities import LoggedModelOutput
        from mlflow.exceptions import MlflowException

        directory = self.directory / MODEL
        if not directory.is_dir():
            raise IntegrityError(f"{directory} is missing in the journal", hint="delete its directory: the run is lost")
        logged = self._logged_model()
        if logged is None:
            self.client.create_logged_model(
                self.experiment_id, MODEL, self.run_id, {JOURNAL: self.key}, model_type=MODEL_TYPE
            )
            logged = self._logged_model()
        self.client.log_model_artifacts(logged.model_id, str(directory))
        self.client.finalize_logged_model(logged.model_id, "READY")
        if not self._has_output(logged.model_id):
            try:
                self.client.log_outputs(self.run_id, [LoggedModelOutput(logged.model_id, 0)])
            except MlflowException:
                if not self._has_output(logged.model_id):  # else the request was sent twice
                    raise

    def _logged_model(self) -> Any:
        """The run's model; of two, which a lost answer can leave, always the same one."""
        models = self.client.search_logged_models([self.experiment_id], f"tags.`{JOURNAL}` = '{self.key}'")
        ours = sorted((each for each in models if each.source_run_id == self.run_id), key=lambda each: each.model_id)
        for twice in ours[1:]:
            self.client.delete_logged_model(twice.model_id)
        return ours[0] if ours else None

    def _has_output(self, model_id: str) -> bool:
        outputs = self.client.get_run(self.run_id).outputs
        return any(each.model_id == model_id for each in (outputs.model_outputs if outputs else []))

    def _register(self, record: Record) -> None:
        name, facts = record["model"], (record["description"], record["tags"])
        self.versions[name] = register(self.client, name, self.key, self.run_id, self._logged_model(), *facts)


def _alive(info: Any) -> Any:
    if info.lifecycle_stage != "active":
        raise Deleted
    return info


def batches(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Records in order: one each, but metrics that follow each other together, as many as a request takes."""
    batch: list[Record] = []
    size = 0
    for record in records:
        count = len(record["values"]) if record["kind"] == "metrics" else BATCH["metrics"]
        if batch and size + count > BATCH["metrics"]:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += count
    if batch:
        yield batch


def _dataset(record: Record) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=record["name"],
        digest=record["digest"][:DIGEST_LENGTH],
        source_type="code",
        source=json.dumps({"tags": record["tags"]}),
        profile=json.dumps({"rows": record["rows"], "digest": record["digest"]}),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", record["context"])])
