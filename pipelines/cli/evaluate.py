"""eval and gate."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.history import opened
from pipelines.cli.output import emit_json, excerpt, metrics_table, safe
from pipelines.errors import ConfigError, GateFailed
from pipelines.index.catalog import get_version

if TYPE_CHECKING:
    from pipelines.evaluate import Asked, Comparison, Evaluation

LISTED = 5  # documents that a line names

_GOLDEN = click.option(
    "--golden",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A JSONL of question and documents, or a BEIR directory; default: gate.golden.",
)
_SPLIT = click.option("--split", default="test", show_default=True, help="Of a BEIR directory: qrels/SPLIT.tsv.")


@click.command("eval", short_help="Retrieval quality of a version on a golden set.")
@click.argument("version", metavar="[V]", default="active")
@_GOLDEN
@_SPLIT
@click.option("--against", metavar="V", help="Also evaluate this version, and compare query by query.")
@click.option("--worst", type=click.IntRange(0), default=5, show_default=True, help="How many queries to show.")
@click.option("--queries", "with_queries", is_flag=True, help="With --json: every query and what was returned.")
@click.option("--answers", is_flag=True, help="Also ask each question as `snapdex ask` does, and score the answers.")
@click.option(
    "--judge", default="", metavar="MODEL", help="With --answers: a model that reads them, as generate.model."
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it as a page, too."
)
@common
def evaluate(
    settings: Settings,
    version: str,
    golden: Path | None,
    split: str,
    against: str | None,
    worst: int,
    with_queries: bool,
    answers: bool,
    judge: str,
    html: Path | None,
) -> None:
    """Measure how well search in version V (default: the active one) finds what the golden set expects.

    \b
    snapdex eval --golden data/golden/sample.jsonl
    snapdex eval v3 --golden scifact/ --set search.mode=dense
    snapdex eval v7 --against active --golden golden.jsonl --html v7.html
    snapdex eval --golden golden.jsonl --answers --set generate.model=path:data/models/helpdesk
    """
    if judge and not answers:
        raise click.UsageError("--judge reads answers: add --answers")
    from pipelines import evaluate_answers
    from pipelines.cli.answers import answers_json, answers_page, print_answers
    from pipelines.evaluate import compare, read_golden
    from pipelines.evaluate.metrics import shown_metrics
    from pipelines.evaluate.page import page
    from pipelines.files import atomic_write
    from pipelines.quality import evaluate_version, missing_from, subject_of

    golden = golden_of(settings, golden)
    queries = read_golden(golden, split)
    config, workspace = settings.config, settings.workspace
    metric = config.gate.metric
    with opened(settings) as (connection, index):
        measured = get_version(connection, index, version)
        other = get_version(connection, index, against) if against else None
    missing = missing_from(config, workspace, queries, measured.number)
    with settings.progress() as progress:
        found = evaluate_version(config, workspace, queries, measured.number, progress=progress)
        before = evaluate_version(config, workspace, queries, other.number, progress=progress) if other else None
        said = (
            evaluate_answers.run(config, workspace, queries, measured.number, judge=judge, progress=progress)
            if answers
            else None
        )
    compared = compare(before, found, metric) if before else None
    if html:
        subject = subject_of(config, measured, golden)
        number, part = other.number if other else None, answers_page(said) if said else None
        shown_page = page(subject, found, metric, missing=missing, against=number, compared=compared, answers=part)
        atomic_write(html, shown_page)
    if settings.json:
        shown: dict[str, Any] = {"version": measured.number, "golden": str(golden), "queries": found.queries}
        shown |= {"metrics": shown_metrics(found.metrics), "confidence": found.confidence, "missing_documents": missing}
        if with_queries:
            shown["per_query"] = [asdict(each) for each in found.worst_first(metric)]
        if said:
            shown["answers"] = answers_json(said, with_queries=with_queries)
        if other and compared:
            shown["against"] = {"version": other.number, **_as_json(compared)}
        emit_json(shown)
        return
    click.echo(f"v{measured.number}, {found.queries} queries, {config.search.mode}")
    metrics_table(shown_metrics(found.metrics), found.confidence)
    if missing:
        count = f"{len(missing):,} document{'s' if len(missing) > 1 else ''} of the golden set"
        click.echo(f"not in v{measured.number}: {count}: {_few(missing)}")
    if other and compared:
        _print_comparison(other.number, compared)
    _print_worst(found, metric, worst)
    if said:
        print_answers(said, worst)


def golden_of(settings: Settings, named: Path | None) -> Path:
    """The golden set that the command line names, or else that of the gate."""
    chosen = settings.config.gate.golden
    if named is None and not chosen:
        raise ConfigError("no golden set is named", hint="--golden FILE, or gate.golden in params.yaml")
    return named or settings.workspace.root / chosen


def _as_json(compared: "Comparison") -> dict[str, Any]:
    """Without what stands in `per_query` of both versions."""
    changed = [
        {"id": each.after.id, "question": each.after.question, "difference": each.difference}
        for each in compared.changed
    ]
    return asdict(compared) | {"changed": changed}


def _print_comparison(number: int, compared: "Comparison") -> None:
    low, high = compared.confidence.get(compared.metric, (0.0, 0.0))
    click.echo(
        f"against v{number}: {compared.metric} {compared.difference.get(compared.metric, 0.0):+.3f}"
        f" [{low:+.3f}, {high:+.3f}], {compared.wins} better, {compared.losses} worse, {compared.ties} the same"
    )


def _print_worst(found: "Evaluation", metric: str, worst: int) -> None:
    answered = [each for each in found.asked if not each.answerable and not each.abstained]
    if answered:
        unanswerable = sum(not each.answerable for each in found.asked)
        click.echo(f"answered although unanswerable: {len(answered)} of {unanswerable}")
    failed = found.failed(metric)[:worst]
    if failed:
        click.echo(f"\nworst by {metric}")
    for each in failed:
        _print_query(each, each.metrics[metric])


def _print_query(asked: "Asked", value: float) -> None:
    click.echo(f"{value:.3f}  {excerpt(asked.question, 100)}")
    click.echo(f"       expected  {_few(asked.expected)}")
    instead = [each for each in asked.returned if each.document not in asked.expected]
    for label, each in zip(["instead", "", ""], instead, strict=False):
        section = f"  {safe(' > '.join(each.section))}" if each.section else ""
        click.echo(f"       {label:<8}  {safe(each.document)}{section}  [{each.score:.3f}]  {excerpt(each.text, 60)}")
    if not asked.returned:
        click.echo("       nothing was returned")


def _few(names: Sequence[str]) -> str:
    return safe(", ".join(names[:LISTED])) + (", …" if len(names) > LISTED else "")


@click.command(short_help="Is version B as good as version A?")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@_GOLDEN
@_SPLIT
@common
def gate(settings: Settings, before: str, after: str, golden: Path | None, split: str) -> None:
    """Decide as `run` does whether version B may follow version A, on the golden set; exit 7 if it may not.

    \b
    snapdex gate active v7
    snapdex gate v3 v7 --golden data/golden/sample.jsonl
    """
    from pipelines.evaluate import gate as decide
    from pipelines.evaluate import read_golden
    from pipelines.quality import evaluate_version

    queries = read_golden(golden_of(settings, golden), split)
    config, workspace = settings.config, settings.workspace
    with opened(settings) as (connection, index):
        a, b = (get_version(connection, index, each).number for each in (before, after))
    with settings.progress() as progress:
        old, new = (evaluate_version(config, workspace, queries, v, exact=True, progress=progress) for v in (a, b))
    decision = decide(new, old, config.gate)
    if settings.json:
        emit_json({"from": a, "to": b, **decision})
    else:
        click.echo(f"{decision['metric']}: v{a} {decision['active']:.3f}, v{b} {decision['candidate']:.3f}")
        click.echo(f"{decision['outcome']}: {decision['reason']}")
    if not decision["passed"]:
        raise GateFailed(f"v{b} may not follow v{a}", hint=f"snapdex diff {a} {b}")
