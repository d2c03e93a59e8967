"""usage."""

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.history import opened
from pipelines.cli.output import emit_json, excerpt, safe, table


@click.command(short_help="What readers asked for, by week.")
@click.option("--weeks", type=click.IntRange(1, 520), default=8, show_default=True, help="This week and those before.")
@common
def usage(settings: Settings, weeks: int) -> None:
    """Show searches by week, what was returned and cited most, the slowest, and documents that were never returned.

    Searches are estimated where section `log` of params.yaml logs a share of them.

    \b
    snapdex usage
    snapdex usage --weeks 52 --json
    """
    from pipelines.index.retrievals import usage as ask

    with opened(settings) as (connection, index):
        found = ask(connection, index, weeks)
    if settings.json:
        emit_json(found)
        return
    if not found.weeks:
        click.echo(f"no search was logged since {found.since}")
        return
    table(
        [
            (w.week, f"{w.searches:,}", f"{w.unanswered:.1%}", f"{w.p50_ms:.1f} ms", f"{w.p95_ms:.1f} ms")
            for w in found.weeks
        ],
        ("week", "searches", "unanswered", "p50", "p95"),
    )
    click.echo("\nreturned most")
    for each in found.returned:
        click.echo(f"{each.searches:>8,}  {safe(each.document)}")
    if found.cited:
        click.echo("\ncited most")
    for cited in found.cited:
        click.echo(f"{cited.answers:>8,}  {safe(cited.document)}")
    click.echo("\nslowest searches")
    for slow in found.slowest:
        click.echo(
            f"{slow.milliseconds:>8.1f} ms  {slow.at:%Y-%m-%d %H:%M}  {slow.mode}  {excerpt(slow.query or '', 80)}"
        )
    click.echo(f"\n{found.never_count:,} documents were never returned")
    for document in found.never:
        click.echo(f"          {safe(document)}")
