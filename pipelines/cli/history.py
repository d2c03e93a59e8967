"""log, show, diff, verify."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json, safe, table
from pipelines.errors import IntegrityError
from pipelines.index import connect, database_url, migrate
from pipelines.index.catalog import Index, get_index, get_version, versions
from pipelines.index.db import Connection, translated_errors
from pipelines.index.history import diff as compare
from pipelines.index.history import diff_facts, documents_of, version_facts


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Connection, Index]]:
    """A connection and the index that the command is about."""
    with connect(database_url(settings.workspace)) as connection, translated_errors():
        migrate(connection)
        yield connection, get_index(connection, settings.config.index.name)


@click.command(short_help="The versions, newest first.")
@click.option("--moves", is_flag=True, help="Who published and rolled back what, when and why, instead.")
@common
def log(settings: Settings, moves: bool) -> None:
    """List the versions of the index, newest first; the active one has a star.

    \b
    snapdex log
    snapdex log --moves
    """
    from pipelines.index.publish import moves as all_moves

    with opened(settings) as (connection, index):
        found: list[Any] = all_moves(connection, index.name) if moves else versions(connection, index)
    if settings.json:
        emit_json(found if moves else [version_facts(version) for version in found])
    elif moves:
        table(
            [
                (
                    f"{m.at:%Y-%m-%d %H:%M:%S}",
                    m.kind,
                    f"v{m.version}",
                    f"v{m.previous}" if m.previous else "-",
                    m.actor,
                    m.reason or "",
                )
                for m in found
            ],
            ("at (UTC)", "what", "to", "from", "who", "why"),
        )
    else:
        table(
            [
                (
                    "*" if v.active else "",
                    f"v{v.number}",
                    v.snapshot[:12],
                    f"{v.created_at:%Y-%m-%d %H:%M}",
                    f"{v.documents:,}",
                    f"{v.chunks:,}",
                    v.model,
                    " ".join(v.tags),
                )
                for v in found
            ],
            ("", "version", "snapshot", "created (UTC)", "documents", "chunks", "model", "tags"),
        )


@click.command(short_help="One version with its lineage.")
@click.argument("version", metavar="V", default="active")
@click.option("--documents", "with_documents", is_flag=True, help="List its documents too.")
@common
def show(settings: Settings, version: str, with_documents: bool) -> None:
    """Show version V (default: the active one): what it is made of, what made it, what its run counted.

    V is v3, 3, a tag, active, or the beginning of a snapshot id.
    """
    with opened(settings) as (connection, index):
        found = get_version(connection, index, version)
        documents = documents_of(connection, index, found) if with_documents else []
    facts = version_facts(found) | {"report": found.report}
    if with_documents:
        facts["document_list"] = [
            {"document": d.uri, "content_sha256": d.content_sha256, "media_type": d.media_type} for d in documents
        ]
    if settings.json:
        emit_json(facts)
        return
    space = facts.pop("space")
    facts |= {"model": f"{space['model']} ({space['dimension']} dimensions, {space['revision'][:12]})"}
    for name in ("metrics", "calibration"):
        facts[name] = ", ".join(f"{each} {value:.6g}" for each, value in sorted((facts[name] or {}).items())) or None
    if found.gate:
        facts["gate"] = f"{found.gate['outcome']} against v{found.gate['against']}: {found.gate['reason']}"
    for name, value in facts.items():
        if name not in ("report", "document_list") and value not in (None, []):
            click.echo(f"{name:<12} {' '.join(value) if isinstance(value, list) else value}")
    for document in documents:
        click.echo(f"  {document.content_sha256[:12]}  {safe(document.uri)}")


@click.command(short_help="Documents and chunks that differ between two versions.")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B", default="active")
@common
def diff(settings: Settings, before: str, after: str) -> None:
    """Show what changed from version A to version B (default: the active one).

    \b
    snapdex diff v1 v2
    snapdex diff v1
    """
    with opened(settings) as (connection, index):
        a, b = (get_version(connection, index, each).number for each in (before, after))
        changes, added, removed = compare(connection, index, a, b)
    if settings.json:
        emit_json(diff_facts(a, b, changes, added, removed))
        return
    for sign, uris in (("+", changes.added), ("~", changes.modified), ("-", changes.removed)):
        for uri in uris:
            click.echo(f"{sign} {safe(uri)}")
    for old, new in changes.renamed:
        click.echo(f"> {safe(old)} -> {safe(new)}")
    click.echo(
        f"v{a} -> v{b}: {len(changes.added)} added, {len(changes.modified)} modified, {len(changes.removed)} removed, "
        f"{len(changes.renamed)} renamed; chunks +{added} -{removed}"
    )


@click.command(short_help="Check a version against its id and the files.")
@click.argument("version", metavar="V", default="active")
@click.option("--deep", is_flag=True, help="Also every vector and term weight, and the graph against exact search.")
@common
def verify(settings: Settings, version: str, deep: bool) -> None:
    """Check that version V still is what its snapshot id says: every row there, every hash right, no file damaged.

    Exit 4 if not.

    \b
    snapdex verify
    snapdex verify v3 --deep
    """
    from pipelines.verify import verify as check

    with settings.progress() as progress:
        report = check(settings.config, settings.workspace, version, deep=deep, progress=progress)
    if settings.json:
        emit_json(report)
    else:
        counts = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in report["checked"].items())
        click.echo(f"v{report['version']}: {counts}")
        for problem in report["problems"]:
            click.echo(f"! {problem}")
    if report["problems"]:
        raise IntegrityError(
            f"v{report['version']} is not what its id says, or files are damaged",
            hint="serve another version: snapdex rollback; bring files back: dvc checkout --force",
        )
