"""chunks."""

from itertools import dropwhile
from typing import TYPE_CHECKING

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json, excerpt, safe

if TYPE_CHECKING:
    from pipelines.chunk.findings import Blocks, Finding, Findings

BAR = 40  # characters of the fullest bin
TEXT = 90  # characters of an example


@click.command(short_help="Sizes of the present chunks, and what is wrong with some.")
@click.option("--worst", type=click.IntRange(0), default=3, show_default=True, help="Examples of each finding.")
@common
def chunks(settings: Settings, worst: int) -> None:
    """Look at every chunk that the last run made: sizes, cut sentences, headings without their text, duplicates,
    divided tables and code. Reads files alone, no database. docs/chunking.md says which parameter to turn.

    \b
    snapdex chunks
    snapdex chunks --worst 20
    """
    from pipelines.chunk.findings import examine

    with settings.progress() as progress:
        found = examine(settings.config, settings.workspace, worst=worst, progress=progress)
    if settings.json:
        emit_json(_as_json(found))
    else:
        _print(found)


def _as_json(found: "Findings") -> dict[str, object]:
    def shown(finding: "Finding") -> dict[str, object]:
        return {"count": finding.count, "examples": finding.examples}

    def blocks(each: "Blocks") -> dict[str, object]:
        return {"whole": each.whole, "divided": each.divided.count, "examples": each.divided.examples}

    return {
        "index": found.index,
        "recipe": found.recipe,
        "documents": found.documents,
        "chunks": found.chunks,
        "tokens": found.tokens,
        "histogram": found.histogram,
        "small": {"min_tokens": found.min_tokens, **shown(found.small)},
        "cut_sentences": shown(found.cut_sentences),
        "headings": {"alone": found.headings_alone, **shown(found.headings)},
        "no_section": shown(found.no_section),
        "duplicates": {"count": found.duplicates, "texts": found.duplicated_texts, "examples": found.groups},
        "tables": blocks(found.tables),
        "code": blocks(found.code),
        "empty": found.empty,
    }


def _print(found: "Findings") -> None:
    click.echo(f"{found.index}  {found.documents:,} documents, {found.chunks:,} chunks, recipe {found.recipe[:12]}")
    sizes = ", ".join(f"{name} {value:,}" for name, value in found.tokens.items())
    click.echo(f"tokens  {sizes}")
    fullest = max((count for _, count in found.histogram), default=0)
    for low, count in dropwhile(lambda each: not each[1], found.histogram):
        click.echo(f"{low:>8,}+ {count:>8,}  {'#' * -(-count * BAR // max(1, fullest))}".rstrip())

    def say(name: str, count: int, note: str = "") -> None:
        share = f" ({count / found.chunks:.1%})" if count else ""
        click.echo(f"{name}  {count:,}{share}{note}")

    say("under chunk.min_tokens", found.small.count, f", that is fewer than {found.min_tokens}")
    _examples(found.small, "tokens")
    say("cut sentences", found.cut_sentences.count)
    _examples(found.cut_sentences, ends=True)
    alone = f", {found.headings_alone:,} of them nothing else" if found.headings_alone else ""
    say("ending with a heading", found.headings.count, alone)
    _examples(found.headings, ends=True)
    say("without a section", found.no_section.count)
    _examples(found.no_section)
    texts = f", of {found.duplicated_texts:,} texts" if found.duplicates else ""
    say("duplicates", found.duplicates, texts)
    for group in found.groups:
        places = ", ".join(f"{uri}:{start}" for uri, start in group.places)
        click.echo(f"    {group.times:,} times  {safe(places)}  {excerpt(group.text, TEXT)}")
    for name, blocks in (("tables", found.tables), ("code", found.code)):
        click.echo(f"{name}  {blocks.whole:,} whole, {blocks.divided.count:,} divided")
        for each in blocks.divided.examples:
            click.echo(f"    {safe(each.document)}:{each.start}  {each.size:,} characters in {each.parts:,} chunks")
    click.echo(f"documents without a chunk  {len(found.empty):,}")
    for uri in found.empty[: found.small.keep]:
        click.echo(f"    {safe(uri)}")


def _examples(finding: "Finding", unit: str = "", *, ends: bool = False) -> None:
    for each in finding.examples:
        size = f" {each.size:,} {unit}" if unit else ""
        text = f"… {excerpt(each.text[-TEXT:], TEXT)}" if ends else excerpt(each.text, TEXT)
        click.echo(f"    {safe(each.document)}:{each.start}-{each.end}{size}  {text}")
