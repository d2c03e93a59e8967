"""How `eval --answers` shows what answers are worth."""

from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.output import excerpt

if TYPE_CHECKING:
    from pipelines.evaluate_answers import AnswersReport


def answers_json(report: "AnswersReport", *, with_queries: bool) -> dict[str, Any]:
    shown = {
        "model": report.model,
        "judge": report.judge or None,
        "metrics": report.metrics,
        "confidence": report.confidence,
        "problems": report.problems,
    }
    return shown | ({"per_query": [each.to_json() for each in report.scored]} if with_queries else {})


def print_answers(report: "AnswersReport", worst: int) -> None:
    """The metrics, then answers with something wrong, of each kind in turn."""
    click.echo(f"\nanswers by {report.model}")
    for name, value in report.metrics.items():
        low, high = report.confidence.get(name, (None, None))
        click.echo(f"{name:<20} {value:8.3f}" + (f"  [{low:.3f}, {high:.3f}]" if low is not None else ""))
    for kind, count in report.problems.items():
        click.echo(f"\n{kind}: {count}")
        for each in [one for one in report.scored if one.problem == kind][:worst]:
            click.echo(f"  {excerpt(each.query.text, 100)}")
            click.echo(f"       said      {excerpt(each.answer.answer, 100)}")
            if each.query.answers:
                click.echo(f"       expected  {excerpt(' or '.join(each.query.answers), 100)}")
