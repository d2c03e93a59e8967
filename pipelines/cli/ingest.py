"""run, plan, documents, quarantine."""

from pathlib import Path
from typing import Any

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import changes_line, emit_json, safe, size, table
from pipelines.errors import GateFailed, InputError, NotFoundError

_SOURCES = click.argument("sources", nargs=-1, metavar="[SOURCE...]")
_MASS_DELETE = click.option(
    "--allow-mass-delete", is_flag=True, help="Go on although many documents, or all, are gone from the sources."
)
_RECOMPUTE = click.option("--recompute", is_flag=True, help="Make again what the manifests name and the store lacks.")


@click.command(short_help="Collect, parse, chunk, embed, build and publish: the main job.")
@_SOURCES
@click.option("--no-publish", is_flag=True, help="Build and seal the version, but leave the active one.")
@click.option("--record", is_flag=True, help="Record the version: DVC commit and push, git commit, tag and push.")
@click.option("--strict", is_flag=True, help="Exit with 3 if documents are in quarantine (the rest is published).")
@click.option("--reason", metavar="TEXT", help="Kept in the log of publications.")
@_MASS_DELETE
@_RECOMPUTE
@common
def run(
    settings: Settings,
    sources: tuple[str, ...],
    no_publish: bool,
    record: bool,
    strict: bool,
    reason: str | None,
    allow_mass_delete: bool,
    recompute: bool,
) -> None:
    """Bring the index up to date with its sources and publish the result as a new version.

    SOURCE is a directory, a file, a glob, a BEIR corpus.jsonl, git+URL-or-path@rev, or any fsspec URL; without one,
    collect.sources of params.yaml, relative to the workspace. Together they are the whole corpus: a document that is in
    none of them any more is removed. Only what changed is parsed and embedded. Documents that cannot be processed go to
    quarantine, and the rest goes on. If nothing changed, nothing is published.

    With --record the workspace works on git branch snapdex/INDEX: afterwards a commit and a tag hold the manifests, and
    the DVC remote every object, so that anybody can reproduce and restore the version (docs/recording.md).

    \b
    snapdex run
    snapdex run docs/ 'notes/**/*.md'
    snapdex run git+https://example.com/handbook.git@main
    snapdex run --no-publish && snapdex diff active v7
    """
    from pipelines import ingest

    try:
        with settings.progress() as progress:
            report = ingest.run(
                settings.config,
                settings.workspace,
                sources=sources,
                base=Path.cwd() if sources else None,
                publish=not no_publish,
                allow_mass_delete=allow_mass_delete,
                recompute=recompute,
                record=record,
                reason=reason,
                progress=progress,
            )
    except GateFailed as error:
        if settings.json:
            emit_json(error.context["report"])
        raise
    if settings.json:
        emit_json(report)
    else:
        _print_run(report)
    if strict and report["quarantined"]:
        raise InputError(
            f"{len(report['quarantined']):,} documents are in quarantine; the rest is in v{report['version']}",
            hint="snapdex quarantine list",
        )


def _print_run(report: dict[str, Any]) -> None:
    state = "published" if report["published"] else "nothing changed" if not report["note"] else "not published"
    click.echo(f"{report['index']} v{report['version']}  {report['snapshot'][:12]}  {state}")
    click.echo(f"documents  {changes_line(report['documents'])}")
    chunks = report["chunks"]
    click.echo(f"chunks     {chunks['total']:,} (+{chunks['added']:,} -{chunks['removed']:,})")
    written = f" {report['written']:,} contexts written," if report["written"] else ""
    click.echo(
        f"work       {report['parsed']:,} parsed,{written} {report['embedded']:,} embedded,"
        f" {report['seconds']['total']:.1f} s"
    )
    if gate := report["gate"]:
        click.echo(f"gate       {gate['outcome']}: {gate['metric']} {gate['reason']}")
    if record := report["record"]:
        pushed = "pushed" if record["pushed"] else "no DVC remote"
        click.echo(f"record     {record['git_commit'][:12]}  {record['tag']}  {pushed}")
        if record["note"]:
            click.echo(f"note       {record['note']}")
    if report["note"]:
        click.echo(f"note       {report['note']}")
    for each in report["quarantined"]:
        click.echo(f"quarantine {safe(each['document'])}: {each['reason']} ({safe(each['detail'])})")


@click.command(short_help="What `run` would do: documents, chunks, time, cost.")
@_SOURCES
@_MASS_DELETE
@_RECOMPUTE
@common
def plan(settings: Settings, sources: tuple[str, ...], allow_mass_delete: bool, recompute: bool) -> None:
    """Show exactly what `run` with the same arguments would do, deletions included, and write nothing.

    \b
    snapdex plan
    snapdex plan --set chunk.max_tokens=200
    """
    from pipelines import ingest

    with settings.progress() as progress:
        report = ingest.plan(
            settings.config,
            settings.workspace,
            sources=sources,
            base=Path.cwd() if sources else None,
            allow_mass_delete=allow_mass_delete,
            recompute=recompute,
            progress=progress,
        )
    if settings.json:
        emit_json(report)
        return
    for kind, sign in (("added", "+"), ("modified", "~"), ("removed", "-")):
        for uri in report["changes"][kind]:
            click.echo(f"{sign} {safe(uri)}")
    for before, after in report["changes"]["renamed"]:
        click.echo(f"> {safe(before)} -> {safe(after)}")
    for each in report["quarantined"]:
        click.echo(f"! {safe(each['document'])}: {each['reason']}")
    chunks, estimate = report["chunks"], report["estimate"]
    click.echo(f"documents  {changes_line(report['documents'])}")
    to_write = f", {report['to_write']:,} contexts to write" if report["to_write"] else ""
    click.echo(
        f"chunks     {chunks['total']:,} (+{chunks['added']:,} -{chunks['removed']:,}),"
        f" {report['to_embed']:,} to embed{to_write}"
    )
    click.echo(
        f"estimate   {estimate['seconds']:.0f} s, {size(estimate['bytes'])} of database, cost {estimate['cost']:.2f}"
    )


@click.command(short_help="Write the source files of a version out, byte for byte.")
@click.argument("version", metavar="V")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write into a directory that is not empty.")
@common
def documents(settings: Settings, version: str, directory: Path, force: bool) -> None:
    """Write the source files of version V to DIR, under the names that they had.

    \b
    snapdex documents v3 /tmp/handbook-v3
    """
    from pipelines.cli.history import opened
    from pipelines.collect import write_documents
    from pipelines.index.catalog import get_version
    from pipelines.index.history import documents_of

    with opened(settings) as (connection, index):
        found = get_version(connection, index, version)
        rows = documents_of(connection, index, found)
    count = write_documents(rows, settings.workspace.store("documents"), directory, force=force)
    if settings.json:
        emit_json({"version": found.number, "documents": count, "directory": str(directory)})
    else:
        click.echo(f"{count:,} documents of v{found.number} in {directory}")


@click.group(short_help="Documents that could not be processed.")
def quarantine() -> None:
    """Documents that could not be processed, each with a stable reason code. Their last good revisions keep serving."""


def _quarantined(settings: Settings) -> list[dict[str, Any]]:
    from pipelines.cli.history import opened
    from pipelines.index.quarantine import listed

    with opened(settings) as (connection, index):
        return listed(connection, index)


@quarantine.command("list")
@common
def list_(settings: Settings) -> None:
    """List them."""
    rows = _quarantined(settings)
    if settings.json:
        emit_json(rows)
    elif rows:
        table(
            [(r["document"], r["reason"], r["attempts"], r["detail"]) for r in rows],
            ("document", "reason", "attempts", "detail"),
        )
    else:
        click.echo("no document is in quarantine")


@quarantine.command()
@click.argument("document")
@common
def show(settings: Settings, document: str) -> None:
    """Show one: why, since when, how often tried."""
    row = next((row for row in _quarantined(settings) if row["document"] == document), None)
    if row is None:
        raise NotFoundError(f"{document} is not in quarantine", hint="snapdex quarantine list")
    if settings.json:
        emit_json(row)
        return
    for name, value in row.items():
        click.echo(f"{name:<15} {safe(str(value))}")


@quarantine.command()
@click.argument("documents", nargs=-1, metavar="[DOCUMENT...]")
@common
def retry(settings: Settings, documents: tuple[str, ...]) -> None:
    """Forget that these documents (default: all) failed, so that the next `run` tries them again."""
    from pipelines.ingest import locked
    from pipelines.parse import forget_failures

    with locked(settings.workspace):
        count = forget_failures(settings.config, settings.workspace, set(documents))
    if settings.json:
        emit_json({"retrying": count})
    else:
        click.echo(f"{count} documents will be tried again by the next `snapdex run`")
