"""The finetune flow: a model that has learned, registered, and if it is better the one that is used.

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
from pipelines import evaluate_model, jobs, tracking, training
from pipelines.errors import SnapdexError
from pipelines.jobs import KINDS, Kind

pin_models = task_of("pin", jobs.with_pinned_models)
make_data = stage("make", jobs.make)
train_model = stage("train", jobs.train)
measure_model = stage("measure", jobs.measure)
conclude = task_of("conclude", training.conclude)
sync_journals = task_of("sync", tracking.sync)


@flow(name="finetune", flow_run_name=reporting.run_name, on_failure=[reporting.failed])
def finetune(
    home: str = ".",
    index: str = "",
    model: str = "",
    kind: Kind = "embedding",
    overrides: list[str] | None = None,
    reindex: bool = False,
) -> dict[str, Any] | State[Any]:
    """Make what is learned from, train, measure, register; returns the report of `snapdex finetune ... --json`.

    Args:
        home: Directory of the workspace, the one with params.yaml.
        index: Name of the index; empty for index.name of params.yaml.
        model: Name of the model; empty for the name of the index.
        kind: What is fine-tuned: an embedding model, or a language model on chats (sft) or preferences (dpo).
        overrides: Parameters as section.key=value, as after `snapdex --set`.
        reindex: Embed the index with the new embedding model afterwards, and publish that if it passes the gate.
    """
    config, workspace = reporting.opened(home, index, overrides)
    name = model or config.index.name
    began = time.monotonic()
    with training.turn(workspace, name):
        config = pin_models(config, kind)
        made = make_data(config, workspace, name, kind)
        key = training.journal_key(config, workspace, name, kind)
        with training.open_run(config, workspace, name, kind, key, made, prefect_run=str(runtime.flow_run.id)) as log:
            trained = train_model(config, workspace, name, kind, log=log)
            measured = measure_model(config, workspace, name, kind)
            conclude(workspace, name, kind, log, trained, measured)
    synced = sync_journals(workspace) if tracking.is_configured() else []
    seconds = time.monotonic() - began
    report = training.report_of(workspace, name, kind, key, made, trained, measured, synced, seconds=seconds)
    card = evaluate_model.card_file(workspace, name).read_text("utf-8")
    create_markdown_artifact(card, key=reporting.key("model", config))
    if reindex and kind == "embedding" and report["passed"]:
        ingest(home, overrides=[*(overrides or []), f"embed.model=mlflow:{name}@champion"], index=config.index.name)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.finetune", description=__doc__)
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="default: the name of the index")
    parser.add_argument("--home", default=os.environ.get("SNAPDEX_HOME", "."), metavar="DIR", help="the workspace")
    parser.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--kind", choices=KINDS, default="embedding", help="what is fine-tuned")
    parser.add_argument("--reindex", action="store_true", help="publish the index with the model if it is better")
    given = parser.parse_args()
    try:
        report = finetune(
            given.home, model=given.model, kind=given.kind, overrides=given.overrides, reindex=given.reindex
        )
        assert isinstance(report, dict)
        training.refuse_if_worse(report)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
