"""pin, unpin, forget, prune: what is kept, and what goes."""

from collections.abc import Mapping
from typing import Any

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.history import opened
from pipelines.cli.output import emit_json, size
from pipelines.index.catalog import get_version

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")


@click.command(short_help="Promise to keep a version.")
@click.argument("version", metavar="V")
@common
def pin(settings: Settings, version: str) -> None:
    """Never forget version V, whatever the retention policy says.

    \b
    snapdex pin v3
    snapdex pin before-migration
    """
    from pipelines.index import retention

    with opened(settings) as (connection, index):
        number = get_version(connection, index, version).number
        retention.pin(connection, index, number)
    _say(settings, {"version": number, "pinned": True}, f"v{number} is kept")


@click.command(short_help="Take the promise back.")
@click.argument("version", metavar="V")
@common
def unpin(settings: Settings, version: str) -> None:
    """Let the retention policy decide about version V again."""
    from pipelines.index import retention

    with opened(settings) as (connection, index):
        number = get_version(connection, index, version).number
        was = retention.unpin(connection, index, number)
    _say(settings, {"version": number, "pinned": False}, f"v{number} {'is' if was else 'was'} not pinned")


@click.command(short_help="Drop old versions from history.")
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="Keep the N newest versions.")
@click.option(
    "--keep-daily", type=click.IntRange(min=0), metavar="N", help="Keep the newest version of each of the last N days."
)
@click.option("--keep-tagged", is_flag=True, help="Keep versions that have a tag.")
@_DRY_RUN
@common
def forget(settings: Settings, keep_last: int | None, keep_daily: int | None, keep_tagged: bool, dry_run: bool) -> None:
    """Drop the versions that no rule keeps. The active, the newest and the pinned ones are always kept.

    Without an option the section `retention` of params.yaml decides; with one, only what is given counts. Numbers are
    never used again. The room comes back with `snapdex prune`.

    \b
    snapdex forget --dry-run
    snapdex forget --keep-last 5 --keep-daily 14 --keep-tagged
    """
    from pipelines.config import RetentionConfig
    from pipelines.index import retention

    given = keep_last is not None or keep_daily is not None or keep_tagged
    policy = (
        RetentionConfig(keep_last=keep_last or 0, keep_daily=keep_daily or 0, keep_tagged=keep_tagged)
        if given
        else settings.config.retention
    )
    with opened(settings) as (connection, index):
        plan = retention.forget(connection, index, policy, dry_run=dry_run)
    if settings.json:
        emit_json({"forget": plan.forget, "keep": {str(n): why for n, why in plan.keep.items()}, "dry_run": dry_run})
        return
    for number, why in plan.keep.items():
        click.echo(f"keep    v{number:<5} {', '.join(why)}")
    for number in plan.forget:
        click.echo(f"forget  v{number}")
    click.echo(f"{len(plan.forget)} of {len(plan.forget) + len(plan.keep)} versions {_done(dry_run)} forgotten")


@click.command(short_help="Give back the room of what no version needs.")
@_DRY_RUN
@common
def prune(settings: Settings, dry_run: bool) -> None:
    """Delete what nothing needs any more: rows in the database, entries in data/store.

    Kept is what a version of any index in this workspace needs, what the present manifests name, and what is recorded
    under a tag or branch snapdex/... in git. Where any of these cannot be read, nothing is deleted. Readers go on.

    \b
    snapdex prune --dry-run
    snapdex forget && snapdex prune
    """
    from pipelines.prune import prune as reclaim

    with settings.progress() as progress:
        report = reclaim(settings.config, settings.workspace, dry_run=dry_run, progress=progress)
    if settings.json:
        emit_json(report)
        return
    _print_counts("rows", report["rows"])
    _print_counts("store entries", {name: each["entries"] for name, each in report["store"].items()})
    bytes_ = sum(each["bytes"] for each in report["store"].values())
    click.echo(f"{size(bytes_)} of data/store {_done(dry_run)} freed")


def _print_counts(what: str, counts: Mapping[str, int]) -> None:
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    click.echo(f"{what:<14} {listed or 'none'}")


def _done(dry_run: bool) -> str:
    return "would be" if dry_run else "are"


def _say(settings: Settings, value: dict[str, Any], text: str) -> None:
    if settings.json:
        emit_json(value)
    else:
        click.echo(text)
