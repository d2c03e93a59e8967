"""publish, rollback, tag, untag: what moves the pointer, and names for where it may go."""

from dataclasses import asdict

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.history import opened
from pipelines.cli.output import emit_json
from pipelines.errors import ConflictError, GateFailed
from pipelines.index import Move, connect, database_url
from pipelines.index import publish as move_forward
from pipelines.index import rollback as move_back
from pipelines.index.catalog import get_version, remove_tag, set_tag

_REASON = click.option("--reason", metavar="TEXT", help="Kept in the log (`snapdex log --moves`).")


@click.command(short_help="Make a version the active one.")
@click.argument("version", metavar="V")
@_REASON
@click.option("--override", metavar="REASON", help="Publish although the gate said no; kept in the log like --reason.")
@common
def publish(settings: Settings, version: str, reason: str | None, override: str | None) -> None:
    """Make version V the active one. Readers see it from their next query on.

    A version that did not pass its gate needs --override, and exit 7 says so.

    \b
    snapdex publish v4 --reason "checked by hand"
    snapdex publish v5 --override "the golden set asks for a page that legal withdrew"
    """
    from pipelines.evaluate.outputs import read_metrics
    from pipelines.quality import adopt

    with opened(settings) as (connection, index):
        target = get_version(connection, index, version)
    if target.active:
        raise ConflictError(f"v{target.number} is active already", hint="snapdex log")
    if target.gate and not target.gate["passed"]:
        if not override:
            raise GateFailed(
                f"v{target.number} did not pass its gate: {target.gate['outcome']}: {target.gate['reason']}",
                hint=f"to insist: snapdex publish {target.number} --override REASON",
            )
        override = f"overrides the gate ({target.gate['outcome']}): {override}"
    reason = "; ".join(filter(None, [reason, override])) or None
    adopt(settings.config, settings.workspace, target.number, read_metrics(settings.workspace, index.name))
    url = database_url(settings.workspace)
    _done(settings, move_forward(lambda: connect(url), index.name, target.number, epoch=index.epoch, reason=reason))


@click.command(short_help="Go back to an earlier version, in milliseconds.")
@click.argument("version", metavar="[V]", required=False)
@_REASON
@common
def rollback(settings: Settings, version: str | None, reason: str | None) -> None:
    """Make an earlier version active again: V, or the one that was active before.

    A scheduled run does not undo this: it publishes again when the content has changed since, not before.

    \b
    snapdex rollback
    snapdex rollback v3 --reason "v4 lost the price list"
    """
    with opened(settings) as (_, index):
        pass
    url = database_url(settings.workspace)
    _done(settings, move_back(lambda: connect(url), index.name, version, reason=reason))


def _done(settings: Settings, move: Move) -> None:
    if settings.json:
        emit_json(asdict(move))
    else:
        before = f" (was v{move.previous})" if move.previous else ""
        click.echo(f"active: v{move.version}{before}")


@click.command(short_help="Give a version a name.")
@click.argument("name")
@click.argument("version", metavar="V")
@common
def tag(settings: Settings, name: str, version: str) -> None:
    """Let NAME stand for version V; a tag that exists moves.

    \b
    snapdex tag before-migration active
    """
    with opened(settings) as (connection, index):
        found = get_version(connection, index, version)
        set_tag(connection, index, name, found.number)
    if settings.json:
        emit_json({"tag": name, "version": found.number})
    else:
        click.echo(f"{name} -> v{found.number}")


@click.command(short_help="Take a name away.")
@click.argument("name")
@common
def untag(settings: Settings, name: str) -> None:
    """Remove the tag NAME; the version stays."""
    with opened(settings) as (connection, index):
        remove_tag(connection, index, name)
    if settings.json:
        emit_json({"tag": name, "removed": True})
    else:
        click.echo(f"{name} is gone")
