"""ask."""

import sys
from typing import TYPE_CHECKING

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json, excerpt, safe
from pipelines.cli.search import metadata

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
    how = {"at": at, "k": k, "mode": mode, "filter": dict(map(metadata, filters))}
    streamed = bool(config.generate.model) and sys.stdout.isatty() and not settings.json
    with (
        open_index(config.index.name, workspace=workspace.root, config=config, log=True) as reader,
        Answerer(config, workspace) as answerer,
    ):
        if not streamed:
            answer = answerer.ask(reader, question, **how)
        else:
            for each in answerer.stream(reader, question, **how):
                if isinstance(each, Answer):
                    answer = each
                    log(reader, answer)
                else:
                    click.echo(safe(each) if each.strip() else each, nl=False)
            click.echo()
    if settings.json:
        emit_json(answer.to_json())
        return
    _show(answer, streamed=streamed)


def _show(answer: "Answer", *, streamed: bool) -> None:
    where = f"{answer.index} v{answer.version}"
    if answer.abstained:
        click.echo(f"{answer.answer} {answer.reason[0].upper()}{answer.reason[1:]} (searched {where}); the nearest:")
        for near in answer.nearest:
            click.echo(f"    {safe(near.document)}  {safe(' > '.join(near.section))}  [{near.score:.3f}]")
    elif not streamed:
        click.echo("\n".join(safe(line) for line in answer.answer.splitlines()))
    for sentence in answer.sentences:
        if streamed and not sentence.supported:
            click.echo(f"no passage supports: {excerpt(sentence.text)}")
    for conflict in answer.conflicts:
        click.echo(f"sources {' and '.join(f'[{marker}]' for marker in conflict.markers)} say different things")
    for cited in answer.citations:
        place = " > ".join(cited.section) + (f", page {cited.page}" if cited.page else "")
        click.echo(f"[{cited.marker}] {safe(cited.document)}  {safe(place)}")
        click.echo(f'    "{excerpt(cited.quote)}"')
    spent = f" · {answer.tokens:,} tokens" if answer.tokens else ""
    spent += f" · cost {answer.cost:.4f}" if answer.cost else ""
    click.echo(f"{where} {answer.snapshot[:12]} · {answer.model}{spent} · {answer.seconds:.1f} s")
