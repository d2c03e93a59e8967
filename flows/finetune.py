"""The finetune flow: an embedding model that has learned from the index and its judgements, if it is better then used.

python -m flows.finetune MODEL [--home DIR]
"""

import argparse
import json
import os
import sys
import time
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State

from flows import reporting
from flows.ingest import ingest
from flows.retries import stage, task_of
from pipelines import evaluate_model, tracking, training
from pipelines import finetune as job
from pipelines.errors import SnapdexError

pin_models = task_of("pin", training.with_pinned_models)
make_pairs = stage("pairs", training.make_pairs)
train_model = stage("finetune", job.run)
measure_model = stage("evaluate_model", evaluate_model.run)
conclude = task_of("conclude", training.conclude)
sync_journals = task_of("sync", tracking.sync)


@flow(name="finetune", flow_run_name=reporting.run_name, on_failure=[reporting.failed])
def finetune(
    home: str = ".",
    index: str = "",
    model: str = "",
    overrides: list[str] | None = None,
    reindex: bool = False,
) -> dict[str, Any] | State[Any]:
    """Make pairs, train, measure, register; returns the report of `snapdex finetune embedding --json`.

    Args:
        home: Directory of the workspace, the one with params.yaml.
        index: Name of the index; empty for index.name of params.yaml.
        model: Name of the model; empty for the name of the index.
        overrides: Parameters as section.key=value, as after `snapdex --set`.
        reindex: Embed the index with the champion afterwards, and publish that if it passes the gate.
    """
    config, workspace = reporting.opened(home, index, overrides)
    name = model or config.index.name
    began = time.monotonic()
    with training.turn(workspace, name):
        config = pin_models(config)
        made = make_pairs(config, workspace, name)
        key = training.journal_key(config, workspace, name)
        with training.open_run(config, workspace, name, key, made, prefect_run=str(runtime.flow_run.id)) as log:
            trained = train_model(config, workspace, name, log=log)
            measured = measure_model(config, workspace, name)
            conclude(workspace, name, log, trained, measured)
    synced = sync_journals(workspace) if tracking.is_configured() else []
    seconds = time.monotonic() - began
    report = training.report_of(workspace, name, key, made, trained, measured, synced, seconds=seconds)
    card = evaluate_model.card_file(workspace, name).read_text("utf-8")
    create_markdown_artifact(card, key=reporting.key("model", config))
    if reindex and report["passed"]:
        ingest(home, overrides=[*(overrides or []), f"embed.model=mlflow:{name}@champion"], index=config.index.name)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.finetune", description=__doc__)
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="default: the name of the index")
    parser.add_argument("--home", default=os.environ.get("SNAPDEX_HOME", "."), metavar="DIR", help="the workspace")
    parser.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--reindex", action="store_true", help="publish the index with the model if it is better")
    given = parser.parse_args()
    try:
        report = finetune(given.home, model=given.model, overrides=given.overrides, reindex=given.reindex)
        assert isinstance(report, dict)
        training.refuse_if_worse(report)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
