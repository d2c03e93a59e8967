"""golden: check a golden set, draft one, let it grow."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.history import opened
from pipelines.cli.output import emit_json, safe
from pipelines.errors import InputError
from pipelines.index.catalog import get_version

if TYPE_CHECKING:
    from pipelines.evaluate.draft import Passage

_FILE = click.argument("file", type=click.Path(path_type=Path))
_AT = click.option("--at", "version", metavar="V", default="active", show_default=True, help="The version to look at.")


@click.group(short_help="Check, draft and grow golden sets.")
def golden() -> None:
    """Golden sets: questions with the documents that answer them (docs/evaluation.md)."""


@golden.command()
@_FILE
@_AT
@click.option("--split", default="test", show_default=True, help="Of a BEIR directory: qrels/SPLIT.tsv.")
@common
def check(settings: Settings, file: Path, version: str, split: str) -> None:
    """Look for what would make FILE measure something else than retrieval; exit 3 if there is an error.

    Errors: drafts, duplicate questions, documents and parts of chunks that the version does not have, questions that
    are in another split too. Warnings: questions that stand verbatim in a document, too few for the gate, none or
    mostly unanswerable ones.

    \b
    snapdex golden check golden.jsonl
    """
    from pipelines.evaluate import read_golden
    from pipelines.evaluate.check import check as look
    from pipelines.evaluate.golden import splits_of
    from pipelines.index.history import chunks_of

    queries = read_golden(file, split, drafts=True)
    others = {name: read_golden(file, name, drafts=True) for name in splits_of(file) if name != split}
    texts: dict[str, list[str]] = {}
    with opened(settings) as (connection, index):
        found = get_version(connection, index, version)
        for document, _, text in chunks_of(connection, index, found.number):
            texts.setdefault(document, []).append(text)
    findings = look(queries, texts, settings.config.gate, others)
    errors = sum(each.level == "error" for each in findings)
    answerable = sum(query.answerable for query in queries)
    if settings.json:
        counts: dict[str, Any] = {"queries": len(queries), "answerable": answerable, "errors": errors}
        shown = {"golden": str(file), "version": found.number, **counts, "warnings": len(findings) - errors}
        emit_json(shown | {"findings": [asdict(each) for each in findings]})
    else:
        for each in findings:
            place = f"{file}:{each.line}" if each.line else str(file)
            click.echo(f"{place} {each.level}: {each.kind}: {safe(each.detail)}")
        click.echo(
            f"{len(queries)} questions, {len(queries) - answerable} of them unanswerable;"
            f" {errors} errors, {len(findings) - errors} warnings against v{found.number}"
        )
    if errors:
        raise InputError(f"{file} has {errors} error{'s' if errors > 1 else ''}", hint="correct the lines named above")


@golden.command()
@_FILE
@click.option("-n", "count", type=click.IntRange(1), default=30, show_default=True, help="How many questions.")
@click.option("--model", metavar="M", help="A language model that writes them, as in generate.model.")
@_AT
@common
def draft(settings: Settings, file: Path, count: int, model: str | None, version: str) -> None:
    """Add questions made from a version to FILE, for a person to judge: from its headings, or from chunks by a model.

    The same version gives the same questions, spread over its documents. A model is asked about a chunk once; questions
    that mostly copy their chunk are marked as trivial. Correct each, or delete it, and take `"draft": true` away: a
    golden set with drafts is refused.

    \b
    snapdex golden draft drafts.jsonl -n 50
    snapdex golden draft drafts.jsonl -n 50 --model openai:gpt-6-luna
    """
    from pipelines.evaluate.draft import add, choose_passages, from_headings
    from pipelines.generate import LEAST_WORDS
    from pipelines.index.history import chunks_of

    spent: dict[str, Any] = {}
    with opened(settings) as (connection, index):
        found = get_version(connection, index, version)
        chunks = chunks_of(connection, index, found.number)
        if model is None:
            rows = from_headings(((document, section) for document, section, _ in chunks), count)
        else:
            passages = choose_passages(chunks, count, LEAST_WORDS)
    if model is not None:
        rows, spent = _written(settings, model, passages)
    _done(settings, file, len(add(file, rows)), len(rows), spent)


def _written(
    settings: Settings, model: str, passages: Sequence["Passage"]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of questions that a model wrote, and what that took."""
    from pipelines.evaluate.draft import from_passages
    from pipelines.generate import Writer, is_copied, passage_of, write_questions

    config = settings.config.generate.with_model(model)
    with settings.progress() as progress, Writer(config, settings.workspace, progress) as writer:
        progress.start("questions", len(passages))
        shown = [passage_of(section, text) for _, section, text in passages]
        written = write_questions(writer, shown)
    questions = [written[each] for each in shown]
    copied = [is_copied(written[each], each) for each in shown]
    spent = {"model": writer.model.name, "written": writer.written, "cost": round(writer.cost, 4)}
    return from_passages(passages, questions, copied), spent


@golden.command()
@_FILE
@click.option(
    "--from",
    "evaluation",
    required=True,
    type=click.Path(path_type=Path),
    metavar="EVAL.JSON",
    help="What `snapdex eval --json --queries` printed.",
)
@click.option("-n", "count", type=click.IntRange(1), default=30, show_default=True, help="How many, worst first.")
@common
def grow(settings: Settings, file: Path, evaluation: Path, count: int) -> None:
    """Add the queries that an evaluation got wrong to FILE as drafts, with what was returned.

    \b
    snapdex eval --golden logged.jsonl --json --queries > eval.json
    snapdex golden grow drafts.jsonl --from eval.json
    """
    from pipelines.evaluate.draft import add, from_evaluation

    try:
        loaded = json.loads(evaluation.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{evaluation} cannot be read: {error}", hint="snapdex eval --json --queries") from None
    rows = from_evaluation(loaded if isinstance(loaded, dict) else {}, settings.config.gate.metric, count)
    _done(settings, file, len(add(file, rows)), len(rows), {})


def _done(settings: Settings, file: Path, added: int, found: int, spent: dict[str, Any]) -> None:
    if settings.json:
        emit_json({"golden": str(file), "added": added, "known": found - added, **spent})
    else:
        known = f", {found - added} were there" if found > added else ""
        click.echo(f'{added} drafts added to {file}{known}; judge each, then remove its "draft"')
