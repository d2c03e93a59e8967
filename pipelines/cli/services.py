"""up, down and status."""

import sys
from pathlib import Path

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json, excerpt, safe, table
from pipelines.errors import SnapdexError
from pipelines.services.control import Up, supervise
from pipelines.services.control import down as stop_all
from pipelines.services.control import runs as last_runs
from pipelines.services.control import status as services_of
from pipelines.services.control import up as start_all
from pipelines.services.deployments import LastRun

DOWN = 75  # exit code of `status`: a service is unavailable
RAISED = "Flow run encountered an exception: "  # how Prefect begins what it says of a failed run


@click.command(short_help="Start Postgres, Prefect, MLflow and a worker; deploy the schedules.")
@click.option("--detach/--foreground", default=True, help="Return when all is healthy (default), or stay and log.")
@common
def up(settings: Settings, detach: bool) -> int | None:
    """Start everything that the schedules of params.yaml need, on this machine, and keep it running.

    A service that dies or does not answer is started again. Where everything runs already, only the schedules are
    deployed anew. The logs are in .snapdex/logs.

    \b
    snapdex up && snapdex status
    snapdex down
    """
    root = settings.workspace.root

    def say(line: str) -> None:
        if not settings.quiet:
            click.echo(line, err=True)

    def ready() -> None:
        try:
            _print(start_all(root, say=lambda line: None), settings.json)
            sys.stdout.flush()
        except SnapdexError as error:  # the services go on
            click.echo(f"error: {error}\nhint: {error.hint}", err=True)

    if detach or not supervise(root, say, ready):
        _print(start_all(root, say), settings.json)
    return None


def _print(found: Up, as_json: bool) -> None:
    if as_json:
        emit_json(found)
        return
    click.echo(f"Prefect      {found.prefect}")
    click.echo(f"MLflow       {found.mlflow}")
    click.echo(f"deployments  {found.deployments}")
    click.echo(f"logs         {found.logs}")


@click.command(short_help="Stop what `up` started.")
@common
def down(settings: Settings) -> None:
    """Stop what `up` started, the embedded Postgres included. Flow runs in progress are told, and end as crashed."""
    stopped = stop_all(settings.workspace.root)
    if settings.json:
        emit_json({"stopped": stopped})
    else:
        click.echo(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@click.command(short_help="What runs, where, since when.")
@common
def status(settings: Settings) -> int:
    """Show each service that `up` starts, and how the last run of each deployment ended. Exit 75 if a service does not
    run."""
    services = services_of(settings.workspace.root)
    ended = last_runs(settings.workspace.root)
    running = all(each.state == "running" for each in services)
    if settings.json:
        emit_json({"running": running, "services": services, "runs": ended})
    else:
        rows = [
            (each.name, each.state, each.pid or "", each.since, each.restarts, each.url or "", _short(each.log))
            for each in services
        ]
        table(rows, ("service", "state", "pid", "since", "restarts", "url", "log"))
        for each in services:
            if each.state == "restarting":
                click.echo(safe(f"{each.name} {each.problem}"))
        if ended:
            click.echo()
            shown = [(each.deployment, each.state, each.ended[:16].replace("T", " "), _why(each)) for each in ended]
            table(shown, ("deployment", "last run", "ended (UTC)", "why"))
    return 0 if running else DOWN


def _why(run: LastRun) -> str:
    return "" if run.state == "Completed" else excerpt(run.message.removeprefix(RAISED), 120)


def _short(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
