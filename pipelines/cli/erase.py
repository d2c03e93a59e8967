"""erase: remove one document for ever."""

import sys
from typing import Any

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json, safe
from pipelines.errors import ConfigError


@click.command(short_help="Remove one document from everything, for ever.")
@click.argument("document")
@click.option("--copies", is_flag=True, help="Erase all documents that have the same content, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@common
def erase(settings: Settings, document: str, copies: bool, yes: bool, dry_run: bool) -> None:
    """Remove DOCUMENT (its URI) from every version, segment, cache, quarantine and log, also those of DVC.

    It stays out: later runs leave it out under whatever name, restored versions come without it. Snapshot ids stay as
    they were. This cannot be taken back. Interrupted, the same command goes on.

    \b
    snapdex erase people/ada.md --dry-run
    snapdex erase people/ada.md
    """
    from pipelines import erase as job

    if not (yes or dry_run or sys.stdin.isatty()):
        raise ConfigError("erase asks before it removes anything, and nobody is there to answer", hint="add --yes")

    def confirm(plan: dict[str, Any]) -> None:
        _print(plan, err=settings.json)
        if not yes:
            click.confirm("Erase this for ever?", abort=True, err=True)

    report = job.erase(settings.config, settings.workspace, document, copies=copies, dry_run=dry_run, confirm=confirm)
    if settings.json:
        emit_json(report)
    elif dry_run:
        _print(report)
    else:
        click.echo(f"{safe(document)} is erased")
        for note in report["notes"]:
            click.echo(f"note: {note}")


def _print(plan: dict[str, Any], *, err: bool = False) -> None:
    def line(what: str, text: str) -> None:
        click.echo(f"{what:<12} {text}", err=err)

    again = " (erased before; what is left of it goes)" if plan["already_erased"] else ""
    line("document", f"{safe(plan['document'])}{again}")
    for each in plan["also_in"]:
        where = "" if each["index"] == plan["index"] else f" in index {each['index']}"
        line("also in", f"{safe(each['document'])}{where}: the same content")
    line("versions", ", ".join(f"v{number}" for number in plan["versions"]) or "none")
    line("chunks", f"{plan['chunks']['erased']:,}; {plan['chunks']['shared']:,} that other documents share stay")
    line("log", f"{plan['searches']:,} searches of readers lose its name")
    line("segments", ", ".join(f"{count:,} of {name}" for name, count in plan["segments"].items()) or "none")
    where = f" ({', '.join(plan['dvc_places'])})" if plan["dvc_places"] else ""
    line("DVC objects", f"{plan['dvc_objects']:,}{where}")
    if plan["dvc_unread_states"]:
        line(
            "",
            f"{plan['dvc_unread_states']:,} recorded states cannot be read: neither cache nor remote has their lists",
        )
