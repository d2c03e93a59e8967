"""db and doctor."""

import os
import subprocess

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json
from pipelines.errors import ConfigError
from pipelines.index import connect, database_url, migrate
from pipelines.index.db import without_password
from pipelines.index.server import EmbeddedServer, binaries


@click.group(short_help="The database: url, psql, start, stop.")
def db() -> None:
    """The database behind the index: the embedded server of the workspace, or the one at SNAPDEX_DATABASE_URL."""


@db.command()
@common
def url(settings: Settings) -> None:
    """Print the connection URL (the embedded server is started if need be)."""
    found = database_url(settings.workspace)
    if settings.json:
        emit_json({"url": found})
    else:
        click.echo(found)


@db.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL ARGUMENTS]")
@common
def psql(settings: Settings, arguments: tuple[str, ...]) -> int:
    """Open psql on it: snapdex db psql -- -c 'SELECT * FROM snapdex.versions'."""
    target, password = without_password(database_url(settings.workspace))
    environment = os.environ | {"PGAPPNAME": "snapdex db psql"} | ({"PGPASSWORD": password} if password else {})
    return subprocess.run([str(binaries() / "psql"), "-d", target, *arguments], env=environment, check=False).returncode


@db.command()
@common
def start(settings: Settings) -> None:
    """Start the embedded server, and bring the schema up to date."""
    found = database_url(settings.workspace)
    with connect(found) as connection:
        migrate(connection)
    if settings.json:
        emit_json({"running": True, "url": found})
    else:
        click.echo(f"running: {found}")


@db.command()
@common
def stop(settings: Settings) -> None:
    """Stop the embedded server; the next command starts it again."""
    if os.environ.get("SNAPDEX_DATABASE_URL"):
        raise ConfigError(
            "the database is not the embedded one", hint="stop the server at SNAPDEX_DATABASE_URL where it runs"
        )
    stopped = EmbeddedServer(settings.workspace.state).stop()
    if settings.json:
        emit_json({"stopped": stopped})
    else:
        click.echo("stopped" if stopped else "it was not running")


@click.command(short_help="Check versions, settings, permissions, disk.")
@common
def doctor(settings: Settings) -> int:
    """Check everything that a run needs, and say what to do about what is wrong. Exit 2 if something is."""
    from pipelines.cli.checks import all_checks

    results = list(all_checks(settings))
    if settings.json:
        emit_json({"ok": all(result.ok for result in results), "checks": results})
    else:
        for result in results:
            click.echo(f"{'ok  ' if result.ok else 'FAIL'}  {result.name:<12} {result.detail}")
            if not result.ok:
                click.echo(f"      {'':<12} -> {result.hint}")
    return 0 if all(result.ok for result in results) else 2
