"""The usage flow: what readers asked for, by week, as a page."""

from dataclasses import asdict
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows import events, reporting
from flows.retries import stage
from pipelines import operate
from pipelines.index.retrievals import Usage
from pipelines.markdown import cell, short

QUERY = 100  # characters of one, where queries are kept

read_usage = stage("usage", operate.usage)


@flow(name="usage", flow_run_name=reporting.run_name, on_failure=[reporting.failed])
def usage(home: str = ".", index: str = "", weeks: int = 8, overrides: list[str] | None = None) -> dict[str, Any]:
    """Read the retrieval log: searches by week, what is returned and cited most, the slowest, what is never returned.

    Args:
        home: Directory of the workspace, the one with params.yaml.
        index: Name of the index; empty for index.name of params.yaml.
        weeks: How many weeks, this one included.
        overrides: Parameters as section.key=value, as after `snapdex --set`.
    """
    config, workspace = reporting.opened(home, index, overrides)
    found = read_usage(config, workspace, weeks=weeks)
    create_markdown_artifact(page(found), key=reporting.key("usage", config))
    events.run_finished(config, weeks=len(found.weeks))
    return asdict(found)


def page(found: Usage) -> str:
    """The usage as Markdown."""
    weeks = "".join(
        f"| {each.week} | {each.searches:,} | {each.unanswered:.1%} | {each.p50_ms:.1f} | {each.p95_ms:.1f} |\n"
        for each in found.weeks
    )
    returned = "".join(f"| {each.searches:,} | {cell(each.document)} |\n" for each in found.returned)
    cited = "".join(f"| {each.answers:,} | {cell(each.document)} |\n" for each in found.cited)
    slow = "".join(
        f"| {each.milliseconds:.1f} | {each.at:%Y-%m-%d %H:%M} | {each.mode} | {short(each.query or '', QUERY)} |\n"
        for each in found.slowest
    )
    never = "".join(f"- {cell(document)}\n" for document in found.never)
    first = f", the first {len(found.never)}" if found.never_count > len(found.never) else ""
    if not weeks:
        return f"# {found.index}\n\nNo search was logged since {found.since}.\n"
    return (
        f"# {found.index}: searches since {found.since}\n\n"
        f"| week | searches | unanswered | p50 ms | p95 ms |\n|---|---|---|---|---|\n{weeks}\n"
        + (f"## Returned most\n\n| searches | document |\n|---|---|\n{returned}\n" if returned else "")
        + (f"## Cited most\n\n| answers | document |\n|---|---|\n{cited}\n" if cited else "")
        + (f"## Slowest\n\n| ms | at | mode | query |\n|---|---|---|---|\n{slow}\n" if slow else "")
        + (f"## Never returned: {found.never_count:,}{first}\n\n{never}" if never else "")
    )
