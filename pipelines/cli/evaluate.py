"""eval and gate."""

from pathlib import Path

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.history import opened
from pipelines.cli.output import emit_json
from pipelines.errors import GateFailed
from pipelines.index.catalog import get_version

_GOLDEN = click.option(
    "--golden",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A JSONL of question and documents, or a BEIR directory.",
)
_SPLIT = click.option("--split", default="test", show_default=True, help="Of a BEIR directory: qrels/SPLIT.tsv.")


@click.command("eval", short_help="Retrieval quality of a version on a golden set.")
@click.argument("version", metavar="V", default="active")
@_GOLDEN
@_SPLIT
@common
def evaluate(settings: Settings, version: str, golden: Path, split: str) -> None:
    """Measure how well search in version V (default: the active one) finds what the golden set expects.

    \b
    snapdex eval --golden data/golden/sample.jsonl
    snapdex eval v3 --golden scifact/ --set search.mode=dense
    """
    from pipelines.evaluate import read_golden
    from pipelines.quality import evaluate_version

    queries = read_golden(golden, split)
    with opened(settings) as (connection, index):
        number = get_version(connection, index, version).number
    with settings.progress() as progress:
        found = evaluate_version(settings.config, settings.workspace, queries, number, progress=progress)
    if settings.json:
        shown = {"metrics": found.metrics, "confidence": found.confidence}
        emit_json({"version": number, "golden": str(golden), "queries": found.queries, **shown})
        return
    click.echo(f"v{number}, {found.queries} queries, {settings.config.search.mode}")
    for name, value in found.metrics.items():
        low, high = found.confidence.get(name, (None, None))
        click.echo(f"{name:<18} {value:8.3f}" + (f"  [{low:.3f}, {high:.3f}]" if low is not None else ""))


@click.command(short_help="Is version B as good as version A?")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@_GOLDEN
@_SPLIT
@common
def gate(settings: Settings, before: str, after: str, golden: Path, split: str) -> None:
    """Compare version B with version A on the golden set; exit 7 if it is worse by more than gate.tolerance.

    \b
    snapdex gate active v7 --golden data/golden/sample.jsonl
    """
    from pipelines.evaluate import gate as decide
    from pipelines.evaluate import read_golden
    from pipelines.quality import evaluate_version

    queries = read_golden(golden, split)
    config = settings.config
    with opened(settings) as (connection, index):
        a, b = (get_version(connection, index, each).number for each in (before, after))
    with settings.progress() as progress:
        old, new = (evaluate_version(config, settings.workspace, queries, v, progress=progress) for v in (a, b))
    decision = decide(new, old, config.gate)
    if settings.json:
        emit_json({"from": a, "to": b, **decision})
    else:
        line = f"{decision['metric']}: v{a} {decision['active']:.3f}, v{b} {decision['candidate']:.3f}"
        click.echo(f"{line}, {'passed' if decision['passed'] else 'failed'}")
    if not decision["passed"]:
        raise GateFailed(f"v{b} is worse than v{a}", hint=f"snapdex diff {a} {b}")
