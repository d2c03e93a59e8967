"""compare."""

from pathlib import Path
from typing import Any

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.evaluate import golden_of
from pipelines.cli.output import emit_json, safe, table


@click.command(short_help="Which remedy a problem needs: prompt, retrieval, fine-tuning or both.")
@click.option(
    "--golden",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A JSONL of question, documents and answer, or a BEIR directory with answers; default: gate.golden.",
)
@click.option("--split", default="test", show_default=True, help="Of a BEIR directory: qrels/SPLIT.tsv.")
@click.option(
    "--examples",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Chats that were answered well, for few-shot.",
)
@click.option(
    "--checks",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What every answer must fulfil (default: what all examples declare).",
)
@click.option("--tuned", default="", metavar="MODEL", help="A fine-tuned model, named as in generate.model.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Ask no more than so many questions.")
@click.option("--volume", type=click.IntRange(1), metavar="N", help="Questions a month (default: compare.volume).")
@click.option(
    "--changes",
    type=click.Choice(["never", "yearly", "monthly", "weekly", "daily"]),
    help="How often the knowledge changes (default: compare.knowledge_changes).",
)
@click.option("--citations", is_flag=True, help="An answer has to name its source (compare.citations).")
@click.option(
    "--latency",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="What 95 of 100 answers may take (default: compare.latency_seconds).",
)
@click.option(
    "--examples-at-hand",
    type=click.IntRange(1),
    metavar="N",
    help="Chats to learn from (default: compare.examples, or as many as --examples has).",
)
@common
def compare(
    settings: Settings,
    golden: Path | None,
    split: str,
    examples: Path | None,
    checks: Path | None,
    tuned: str,
    limit: int | None,
    volume: int | None,
    changes: str | None,
    citations: bool,
    latency: float | None,
    examples_at_hand: int | None,
) -> None:
    """Ask the questions of a golden set to generate.model alone, after examples, and with what the index finds, and to
    a fine-tuned model alone and with it; say what each is worth and costs, why answers are wrong, and what to do.

    \b
    snapdex compare --golden data/golden/sample.jsonl --set generate.model=openai:gpt-6-luna
    snapdex compare --golden golden.jsonl --examples chats.jsonl --tuned path:data/models/house
    snapdex compare --golden golden.jsonl --changes weekly --citations --latency 2 --volume 50000
    """
    from pipelines.compare import Asking, run, track

    said = {
        "volume": volume,
        "knowledge_changes": changes,
        "citations": citations or None,
        "latency_seconds": latency,
        "examples": examples_at_hand,
    }
    given = {key: value for key, value in said.items() if value is not None}
    config = settings.config
    config = config.model_copy(update={"compare": config.compare.model_copy(update=given)})
    asking = Asking(golden_of(settings, golden), split, examples, checks, tuned, limit)
    with settings.progress() as progress:
        report = run(config, settings.workspace, asking, progress=progress)
    if not settings.json:
        _print(report)
    tracked = None
    try:
        tracked = track(config, report)
    finally:  # what was measured is said, also where MLflow is away
        if settings.json:
            emit_json(report | {"mlflow_run": tracked.run_id if tracked else None})


def _print(report: dict[str, Any]) -> None:
    rows = []
    for name, each in report["systems"].items():
        quality, gain, expense = each["metrics"]["quality"], each["gain"], each["expense"]
        rows.append(
            (
                name,
                f"{quality['mean']:.3f}",
                f"{gain['difference']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" if gain else "",
                f"{expense['latency_p95_seconds']:.2f}",
                f"{expense['cost_per_thousand']:.4f}",
                *each["failures"].values(),
            )
        )
    kinds = next(iter(report["systems"].values()))["failures"]
    table(rows, ("system", "quality", "gain over prompt only", "p95 s", "cost of 1,000", *kinds))
    for name, why in report["left_out"].items():
        click.echo(f"left out: {name}: {why}")
    told = report["recommendation"]
    click.echo(f"\nrecommended: {told['remedy']}")
    for line in told["reasons"]:
        click.echo(f"  because  {safe(line)}")
    for line in told["next"]:
        click.echo(f"  next     {safe(line)}")
    click.echo(f"all of it: {report['page']}")
