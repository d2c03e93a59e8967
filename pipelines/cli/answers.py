"""How `eval --answers` shows what answers are worth."""

from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.output import excerpt, metrics_table

if TYPE_CHECKING:
    from pipelines.evaluate import Query
    from pipelines.evaluate.page import Answers
    from pipelines.evaluate_answers import AnswersReport


def answers_json(report: "AnswersReport", *, with_queries: bool) -> dict[str, Any]:
    from pipelines.evaluate.metrics import shown_metrics

    shown = {
        "model": report.model,
        "judge": report.judge or None,
        "metrics": shown_metrics(report.metrics),
        "confidence": report.confidence,
        "problems": report.problems,
    }
    return shown | ({"per_query": [each.to_json() for each in report.scored]} if with_queries else {})


def answers_page(report: "AnswersReport") -> "Answers":
    """For the page of an evaluation."""
    from pipelines.evaluate.metrics import shown_metrics
    from pipelines.evaluate.page import Answers

    wrong = {
        kind: [
            (one.query.text, one.answer.answer, _expected(one.query)) for one in report.scored if one.problem == kind
        ]
        for kind in report.problems
    }
    return Answers(report.model, report.judge, shown_metrics(report.metrics), report.confidence, wrong)


def _expected(query: "Query") -> str:
    return " or ".join(query.answers) or ", ".join(sorted(query.relevant))


def print_answers(report: "AnswersReport", worst: int) -> None:
    """The metrics, then answers with something wrong, of each kind in turn."""
    from pipelines.evaluate.metrics import shown_metrics

    click.echo(f"\nanswers by {report.model}")
    metrics_table(shown_metrics(report.metrics), report.confidence)
    for kind, count in report.problems.items():
        click.echo(f"\n{kind}: {count}")
        for each in [one for one in report.scored if one.problem == kind][:worst]:
            click.echo(f"  {excerpt(each.query.text, 100)}")
            click.echo(f"       said      {excerpt(each.answer.answer, 100)}")
            if each.query.answers:
                click.echo(f"       expected  {excerpt(' or '.join(each.query.answers), 100)}")
