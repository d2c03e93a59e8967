"""A comparison as a page for people: what to do, and the measurements that say so."""

from collections.abc import Mapping
from typing import Any

from pipelines.compare.questions import METRICS, QUALITY
from pipelines.markdown import short

LENGTH = 160  # characters of each text in a table


def page(report: Mapping[str, Any]) -> str:
    """Markdown, from what `data/metrics/compare/GOLDEN.json` says."""
    systems, told = report["systems"], report["recommendation"]
    version = f", {report['index']} v{report['version']}" if report["version"] else ""
    parts = [
        f"# Which remedy: {told['remedy']}",
        f"{report['questions']} questions of `{report['golden']}`, {report['unanswerable']} of them unanswerable"
        f"{version}. Chosen: **{told['system']}**.",
        _list(told["reasons"]),
        f"## What next\n\n{_list(told['next'])}" if told["next"] else "",
        f"## Quality\n\n{_quality(systems)}",
        f"`quality` is `{report['metric']}` of an answer, of a JSON object the share of its"
        " fields that are right, 0 where its declared format or a constraint is broken, and of"
        " an unanswerable question 1 for an abstention. Intervals hold 95 % of resampled means; gains are paired.",
        f"## Time and cost\n\n{_expense(systems, report['case']['volume'])}",
        f"## Why answers are wrong\n\n{_failures(systems)}",
        _curve(report["speculative"]) if report["speculative"] else "",
        f"## Left out\n\n{_list([f'{name}: {why}' for name, why in left.items()])}"
        if (left := report["left_out"])
        else "",
        _unjudged(report["without_answer"]),
        _samples(systems),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _quality(systems: Mapping[str, Any]) -> str:
    names = [name for name in METRICS if any(name in each["metrics"] for each in systems.values())]
    rows = []
    for name, each in systems.items():
        cells = [_mean(each["metrics"].get(metric), interval=metric == QUALITY) for metric in names]
        rows.append([name, str(each["questions"]), *cells, _gain(each["gain"])])
    return _table(["system", "questions", *names, "gain over prompt only"], rows)


def _mean(found: Mapping[str, float] | None, *, interval: bool) -> str:
    if found is None:
        return "-"
    return f"{found['mean']:.3f}" + (f" [{found['low']:.3f}, {found['high']:.3f}]" if interval else "")


def _gain(found: Mapping[str, float] | None) -> str:
    return f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]" if found else ""


def _expense(systems: Mapping[str, Any], volume: int) -> str:
    header = ["system", "p50 s", "p95 s", "prompt tokens", "written tokens", "cost of 1,000", f"a month of {volume:,}"]
    has_prices = any(each["expense"]["cost_per_thousand"] for each in systems.values())
    rows = [
        [
            name,
            f"{found['latency_p50_seconds']:.3f}",
            f"{found['latency_p95_seconds']:.3f}",
            f"{found['prompt_tokens']:.0f}",
            f"{found['completion_tokens']:.0f}",
            *([f"{found['cost_per_thousand']:.4f}", f"{found['cost_per_month']:.2f}"] if has_prices else ["-", "-"]),
        ]
        for name, each in systems.items()
        for found in [each["expense"]]
    ]
    return _table(header, rows) + ("" if has_prices else "\n\nNo cost: `generate` has no prices.")


def _failures(systems: Mapping[str, Any]) -> str:
    kinds = list(next(iter(systems.values()))["failures"])
    rows = [
        [name, str(each["questions"] - sum(each["failures"].values())), *map(str, each["failures"].values())]
        for name, each in systems.items()
    ]
    return _table(["system", "right", *kinds], rows)


def _curve(found: Mapping[str, Any]) -> str:
    rows = [[f"{each['retrievals']:.0%}", f"{each['quality']:.3f}"] for each in found["curve"]]
    return (
        "## Retrieval only where the model is unsure\n\nHalf of the questions chose the threshold, these are the other"
        f" half.\n\n{_table(['searched for', 'quality'], rows)}"
    )


def _unjudged(count: int) -> str:
    return f"{count} questions have a document and no answer: they were not asked." if count else ""


def _samples(systems: Mapping[str, Any]) -> str:
    rows = [
        [name, each["kind"], each["question"], each["expected"], each["said"], each["why"]]
        for name, system in systems.items()
        for each in system["samples"]
    ]
    header = ["system", "failure", "asked", "expected", "said", "why"]
    return f"## Examples of failures\n\n{_table(header, rows)}" if rows else ""


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {short(line, 400)}" for line in lines)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *([short(text, LENGTH) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
