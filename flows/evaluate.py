"""The evaluate flow: does the active version still answer its golden set as well as when it was made?"""

from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State

from flows import events, reporting
from flows.retries import stage
from pipelines import operate, quality
from pipelines.evaluate.page import WORST
from pipelines.evaluate.page import page as evaluation_page
from pipelines.markdown import cell
from pipelines.quality import Drift
from pipelines.tracking import Dataset

DIGEST_DIGITS = 32  # MLflow takes 36

measure_drift = stage("evaluate", quality.drift)


@flow(name="evaluate", flow_run_name=reporting.run_name, on_failure=[reporting.failed])
def evaluate(
    home: str = ".", index: str = "", golden: str | None = None, overrides: list[str] | None = None
) -> dict[str, Any] | State[Any]:
    """Ask the active version its golden set and compare with what was measured when it was made.

    Args:
        home: Directory of the workspace, the one with params.yaml.
        index: Name of the index; empty for index.name of params.yaml.
        golden: Path of a golden set from the workspace, instead of gate.golden.
        overrides: Parameters as section.key=value, as after `snapdex --set`.
    """
    named = [f"gate.golden={golden}"] if golden else []
    config, workspace = reporting.opened(home, index, [*(overrides or []), *named])
    found = measure_drift(config, workspace)
    if found is None:
        return reporting.skipped(f"{config.index.name} has no golden set: gate.golden is unset or empty")
    name = f"{config.index.name} v{found.version.number} evaluated"
    subject = quality.subject_of(config, found.version, workspace.root / config.gate.golden)
    tracked = reporting.track(
        config,
        found.version,
        found.now.metrics,
        run_name=name,
        prefect_run=runtime.flow_run.id,
        dataset=Dataset(config.gate.golden, subject.golden_sha256[:DIGEST_DIGITS], found.now.queries),
        pages={"evaluation.html": evaluation_page(subject, found.now, config.gate.metric, missing=found.missing)},
    )
    if tracked:
        operate.note_runs(config, workspace, found.version.number, mlflow_run=tracked.run_id)
    rows = reporting.compared(found.now.metrics, found.then)
    create_table_artifact(rows, key=reporting.key("drift", config), description=f"{name}: now and when it was made")
    text = page(found, config.index.name, config.gate.metric, rows) + reporting.links(found.version, tracked)
    create_markdown_artifact(text, key=reporting.key("evaluate", config))
    mlflow_run = tracked.run_id if tracked else None
    ids = {"version": found.version.number, "snapshot": found.version.snapshot, "mlflow_run": mlflow_run}
    events.run_finished(config, **ids, queries=found.now.queries)
    return {
        "index": config.index.name,
        "version": found.version.number,
        "queries": found.now.queries,
        "metrics": found.now.metrics,
        "before": found.then,
        "missing_documents": found.missing,
        "mlflow_run": mlflow_run,
    }


def page(found: Drift, name: str, metric: str, rows: list[reporting.Row]) -> str:
    """The evaluation as Markdown: the metrics, then the queries that are answered worst."""
    metrics = "".join(
        f"| {row['metric']} | {row['now']} | {'-' if row['before'] is None else row['before']} |"
        f" {'-' if row['difference'] is None else format(row['difference'], '+.4f')} |\n"
        for row in rows
    )
    worst = "".join(
        f"| {cell(each.question)} | {each.metrics[metric]:.2f} | {cell(', '.join(each.expected))} |"
        f" {cell(', '.join(hit.document for hit in each.returned)) or 'nothing'} |\n"
        for each in found.now.failed(metric)[:WORST]
    )
    return (
        f"# {name} v{found.version.number}: {found.now.queries} queries\n\n"
        f"| metric | now | when made | difference |\n|---|---|---|---|\n{metrics}\n"
        + (f"{len(found.missing)} documents of the golden set are not in this version.\n\n" if found.missing else "")
        + (
            f"## Answered worst\n\n| query | {metric} | expected | returned |\n|---|---|---|---|\n{worst}\n"
            if worst
            else ""
        )
    )
