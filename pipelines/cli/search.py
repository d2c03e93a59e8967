"""search."""

from collections.abc import Sequence
from typing import Any

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json, excerpt, safe
from pipelines.errors import InputError


@click.command(short_help="Retrieve with citations.")
@click.argument("query")
@click.option("-k", type=click.IntRange(1, 10_000), help="How many hits (default: search.k).")
@click.option("--at", metavar="V", help="Search this version instead of the active one.")
@click.option("--mode", type=click.Choice(["hybrid", "dense", "lexical"]), help="Default: search.mode.")
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Metadata to match; document=PATTERN with *."
)
@click.option("--exact", is_flag=True, help="Compare with every vector instead of walking the graph.")
@click.option(
    "--fusion",
    type=click.Choice(["convex", "rrf"]),
    help="How hybrid mode joins both lists: by weighted scores, or by ranks alone (default: search.fusion).",
)
@click.option("--mmr", is_flag=True, help="Prefer hits that say something else than better ones (search.mmr_lambda).")
@click.option("--rerank", is_flag=True, help="Look again at the best hits, and put them in order (search.reranker).")
@click.option(
    "--expand",
    type=click.Choice(["chunk", "section", "neighbours"]),
    help="Show the section around a hit, or the chunks before and after it (default: search.expand).",
)
@common
def search(
    settings: Settings,
    query: str,
    k: int | None,
    at: str | None,
    mode: str | None,
    filters: tuple[str, ...],
    exact: bool,
    fusion: str | None,
    mmr: bool,
    rerank: bool,
    expand: str | None,
) -> None:
    """Find the passages that answer QUERY, best first, each with document, section and place.

    \b
    snapdex search "how do I fail over the database?"
    snapdex search ERR-4021 --mode lexical -k 3
    snapdex search "refund limit" --at v2 --filter 'document=policies/*'
    """
    from pipelines.index import open_index

    if not query.strip():
        raise InputError("the query is empty", hint="say what to look for, in a sentence or in a few words")
    config = settings.config
    with open_index(config.index.name, workspace=settings.workspace.root, config=config, log=True) as reader:
        result = reader.search(
            query,
            k=k,
            at=at,
            mode=mode,
            filter=filters_of(filters),
            exact=exact,
            fusion=fusion,
            mmr=mmr or None,
            expand=expand,
            rerank=rerank or None,
        )
    if settings.json:
        emit_json(result)
        return
    if not result.hits and filters:
        click.echo(f"no document of {result.index} v{result.version} passes the filter")
    elif result.abstained:
        nearest = "; the nearest:" if result.hits else ""
        click.echo(f"nothing relevant in {result.index} v{result.version}{nearest}")
    for hit in result.hits:
        place = " > ".join(hit.section) + (f", page {hit.page}" if hit.page else "")
        click.echo(f"{hit.rank:>2}. {safe(hit.document)}  {safe(place)}  [{hit.score:.3f}]")
        click.echo(f"    {excerpt(hit.text)}")
        if hit.similar:
            click.echo(f"    similar: {safe(', '.join(hit.similar))}")
    if result.hits:
        click.echo(f"{result.index} v{result.version} {result.snapshot[:12]} · {result.mode}")


def filters_of(texts: Sequence[str]) -> dict[str, Any]:
    """Filters as they are typed, each KEY=VALUE."""
    from pipelines.index.search import filters_of as read

    try:
        return read(texts)
    except InputError as error:
        raise click.UsageError(f"--filter {error}") from None
