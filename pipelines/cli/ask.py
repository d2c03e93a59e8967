"""ask."""

import sys
from typing import TYPE_CHECKING

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json, excerpt, safe
from pipelines.cli.search import filters_of

if TYPE_CHECKING:
    from pipelines.ask import Answer


@click.command(short_help="Answer with citations, or say that there is no answer.")
@click.argument("question")
@click.option("--at", metavar="V", help="Ask this version instead of the active one.")
@click.option("-k", type=click.IntRange(1, 1000), help="Passages to retrieve (default: search.k).")
@click.option("--mode", type=click.Choice(["hybrid", "dense", "lexical"]), help="Default: search.mode.")
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Metadata to match; document=PATTERN with *."
)
@common
def ask(
    settings: Settings, question: str, at: str | None, k: int | None, mode: str | None, filters: tuple[str, ...]
) -> None:
    """Answer QUESTION from the index, each sentence with the passage that says so.

    With generate.model set, that model writes the answer, and a sentence that no passage supports is marked [?].
    Without one, the answer is quoted from the documents. Where nothing relevant is found, the answer is that.

    \b
    snapdex ask "how long may a standby lag behind before it is not promoted?"
    snapdex ask "what is the refund limit?" --at v2 --filter 'document=policies/*'
    snapdex ask "who approves a refund?" --set generate.model=openai:gpt-6-luna
    """
    from pipelines.ask import Answer, Answerer, log
    from pipelines.index import open_index

    config, workspace = settings.config, settings.workspace
    how = {"at": at, "k": k, "mode": mode, "filter": filters_of(filters)}
    streamed = bool(config.generate.model) and sys.stdout.isatty() and not settings.json
    with (
        open_index(config.index.name, workspace=workspace.root, config=config, log=True) as reader,
        Answerer(config, workspace, patient=False) as answerer,
    ):
        way = answerer.begin(reader, question, **how)
        if streamed and not way.answer:
            pieces = []
            try:
                for each in answerer.stream(way):
                    if isinstance(each, Answer):
                        answer = each
                    else:
                        pieces.append(each)
                        click.echo(safe(each) if each.strip() else each, nl=False)
            finally:
                click.echo()
            shown = "".join(pieces).strip()
        else:
            answer, shown = answerer.finish(way), ""
        log(reader, answer)
    if settings.json:
        emit_json(answer.to_json())
        return
    _show(answer, shown)


def _show(answer: "Answer", shown: str) -> None:
    """shown: what the terminal has already, as the model wrote it."""
    where = f"{answer.index} v{answer.version}"
    if answer.abstained:
        click.echo(f"{answer.answer} {answer.reason[0].upper()}{answer.reason[1:]} (searched {where}); the nearest:")
        for near in answer.nearest:
            click.echo(f"    {safe(near.document)}  {safe(' > '.join(near.section))}  [{near.score:.3f}]")
    elif answer.answer != shown:
        click.echo(("\nchecked:\n" if shown else "") + "\n".join(safe(line) for line in answer.answer.splitlines()))
    for conflict in answer.conflicts:
        click.echo(f"sources {' and '.join(f'[{marker}]' for marker in conflict.markers)} say different things")
    for cited in answer.citations:
        place = " > ".join(cited.section) + (f", page {cited.page}" if cited.page else "")
        click.echo(f"[{cited.marker}] {safe(cited.document)}  {safe(place)}")
        click.echo(f'    "{excerpt(cited.quote)}"')
    spent = f" · {answer.tokens:,} tokens" if answer.tokens else ""
    spent += f" · cost {answer.cost:.4f}" if answer.cost else ""
    if not answer.calibrated and not answer.abstained:
        click.echo("note: this version has not learned when nothing relevant is there, see docs/calibration.md")
    click.echo(f"{where} {answer.snapshot[:12]} · {answer.model}{spent} · {answer.seconds:.1f} s")
