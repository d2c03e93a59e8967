"""finetune: what a model shall learn from, the training, what MLflow knows of it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json, safe, table
from pipelines.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pipelines.jobs import Kind

SHOWN = 10  # findings of one kind; --json has more


@click.group(short_help="Fine-tune models, tracked.")
def finetune() -> None:
    """Fine-tune models, tracked."""


@finetune.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What the model is evaluated on: such a file, or for pairs a golden set. Nothing of it may be learned.",
)
@click.option(
    "--model",
    metavar="M",
    help="Whose tokens are counted (default: base of the section, else generate.model or embed.model).",
)
@click.option(
    "--checks",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What the answers of chats and preferences must fulfil (default: sft.checks, dpo.checks).",
)
@click.option("--pii", is_flag=True, help="Name personal data in chats and preferences, too.")
@common
def check(
    settings: Settings, file: Path, against: Path | None, model: str | None, checks: Path | None, pii: bool
) -> None:
    """Look for what would make a model learn something else from FILE than it should; exit 3 if there is an error.

    FILE holds pairs for an embedding model, chats or preferences for a language model, told by its first line. Errors:
    lines that are none, contradictions, answers that break what is declared for them, and what is in the evaluation
    too: questions, near-duplicates, groups. Warnings: texts that are too long or damaged, and too little diversity.

    \b
    snapdex finetune check pairs.jsonl --against held-out.jsonl
    snapdex finetune check chats.jsonl --checks checks.json --pii
    """
    from pipelines import examples, pairs
    from pipelines.models import resolve_model

    config, workspace = settings.config, settings.workspace
    kind = examples.kind_of(file)
    if kind is None and (checks or pii):
        raise ConfigError(f"{file} does not begin with a chat or a preference", hint="leave out --checks and --pii")
    if kind is None:
        base = config.base.with_model(model) if model else config.base
        read_by = base.model
        checked = pairs.check_for(file, resolve_model(base, workspace), against=against)
    else:
        section = examples.section_of(config, kind)
        read_by = model or section.base or config.generate.model
        chosen = {"base": read_by, "checks": str(checks.resolve()) if checks else section.checks}
        section = section.model_copy(update=chosen)
        checked = examples.check_for(section, workspace, file, against=against, pii=pii)
    if settings.json:
        emit_json(
            {"file": str(file), "against": str(against) if against else None, "model": read_by}
            | {"errors": checked.errors, "warnings": checked.warnings, "counts": checked.counts}
            | {"statistics": checked.statistics, "findings": [asdict(each) for each in checked.findings]}
        )
    else:
        shown = dict.fromkeys(checked.counts, 0)
        for each in checked.findings:
            shown[each.kind] += 1
            if shown[each.kind] <= SHOWN:
                place = f"{file}:{each.line}" if each.line else str(file)
                click.echo(f"{place} {each.level}: {each.kind}: {safe(each.detail)}")
        rest = [f"{count - SHOWN:,} {kind}" for kind, count in checked.counts.items() if count > SHOWN]
        if rest:
            click.echo(f"and {', '.join(rest)} more")
        table([(name.replace("_", " "), f"{value:,}") for name, value in checked.statistics.items()], ("", file.name))
        click.echo(f"{_counted(checked.errors, 'error')}, {_counted(checked.warnings, 'warning')}")
    if checked.errors:
        raise InputError(f"{file} has {_counted(checked.errors, 'error')}", hint="correct the lines named above")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@finetune.command()
@click.argument("model", default="", metavar="[MODEL]")
@click.option("--dry-run", is_flag=True, help="Make and check the pairs, and train nothing.")
@common
def embedding(settings: Settings, model: str, dry_run: bool) -> None:
    """Fine-tune an embedding model on what the index and its judgements teach, and register it if it is better.

    Pairs are made from pairs.judgements and from the corpus, checked, and divided; the model named by finetune.base
    learns from one part, and is compared with embed.model on gate.golden, or on the part that was held out. MODEL is
    its name (default: that of the index); it lies in data/models/MODEL afterwards, and in MLflow's registry where
    MLFLOW_TRACKING_URI says where that is. The index is not changed: set embed.model to mlflow:MODEL@champion, or to
    path:data/models/MODEL, and run. Interrupted, the same command goes on. Exit 7 if the model is not better.

    \b
    snapdex finetune embedding --set pairs.judgements=train.jsonl
    snapdex run --set embed.model=mlflow:handbook@champion
    """
    _fine_tune(settings, model or settings.config.index.name, "embedding", dry_run)


@finetune.command()
@click.argument("model")
@click.option("--dry-run", is_flag=True, help="Check and divide the chats, and train nothing.")
@common
def sft(settings: Settings, model: str, dry_run: bool) -> None:
    """Fine-tune a language model on chats, and register it if it behaves better.

    For behaviour: a format, a tone, constraints, when to refuse. What a model shall know belongs into an index instead.
    The chats of sft.data (or of MODEL in language_models) are checked and divided; the model named by sft.base
    learns from one part: here, with LoRA by default, or as openai:MODEL at its server. Both models then answer the
    prompts of the other part: sft.metric decides, and what was unlearned can refuse it. The model lies in
    data/models/MODEL, and in MLflow's registry where MLFLOW_TRACKING_URI says where that is. Interrupted, the same
    command goes on. Exit 7 if it is not better.

    \b
    snapdex finetune check chats.jsonl
    snapdex finetune sft triage --set sft.data=chats.jsonl --set sft.base=path:models/small
    """
    _fine_tune(settings, model, "sft", dry_run)


@finetune.command()
@click.argument("model")
@click.option("--dry-run", is_flag=True, help="Check and divide the preferences, and train nothing.")
@common
def dpo(settings: Settings, model: str, dry_run: bool) -> None:
    """Fine-tune a language model on preferences: pairs of answers, of which one is better.

    As `snapdex finetune sft`, with the section dpo; begin with a model that was fine-tuned on chats. Judged by how many
    held-out pairs it likes the right way round (dpo.metric: preferred). Exit 7 if it is not better.

    \b
    snapdex finetune dpo triage-kind --set dpo.data=preferences.jsonl --set dpo.base=path:data/models/triage
    """
    _fine_tune(settings, model, "dpo", dry_run)


def _fine_tune(settings: Settings, name: str, kind: "Kind", dry_run: bool) -> None:
    from pipelines import jobs, training

    config, workspace = settings.config, settings.workspace
    with settings.progress() as progress:
        if dry_run:
            made = jobs.make(config, workspace, name, kind, progress=progress).to_json()
            emit_json(made) if settings.json else _print_made(made)
            return
        report = training.run(config, workspace, name, kind, progress=progress)
    if settings.json:
        emit_json(report)
    else:
        _print_training(report, jobs.stages_of(kind)[0])
    training.refuse_if_worse(report)


def _print_made(made: dict[str, Any]) -> None:
    sources = ", ".join(f"{count:,} {safe(source)}" for source, count in made.get("sources", {}).items())
    rows = {"sft": "chats", "dpo": "preferences"}.get(made.get("kind", ""), "pairs")
    parts = f"{made['train']:,} to learn from, {made['held_out']:,} held out"
    click.echo(f"{rows:12}{parts}{f' ({sources})' if sources else ''}")
    for reason, count in made["dropped"].items():
        click.echo(f"left out    {count:,} {reason}")
    for warning in made["warnings"]:
        click.echo(f"warning     {safe(warning)}")


def _print_training(report: dict[str, Any], first: str) -> None:
    _print_made(report[first])
    training, found = report["training"], report["evaluation"]
    state = f"{training['steps']:,} steps, {training['seconds']:.0f} s"
    click.echo(f"training    {state if training['trained'] else 'nothing to do: it is there already'}")
    for corpus, values in found.get("corpora", {}).items():
        click.echo(f"{safe(corpus)}: ndcg@10 {_change(values, 4)}, {values['queries']:,} queries")
    for metric, values in found.get("metrics", {}).items():
        click.echo(f"{safe(metric)}: {_change(values, 3)}, {values['queries']:,} examples")
    click.echo(f"decision    {found['outcome']}: {found['reason']}")
    click.echo(f"model       {report['directory']}")
    if told := report["tracking"]:
        version = ", ".join(f"{name} version {number}" for name, number in told["versions"].items())
        promoted = told["promotion"]
        click.echo(f"registry    {version or 'not sent yet: with MLFLOW_TRACKING_URI, snapdex finetune sync sends it'}")
        if told["problem"]:
            click.echo(f"problem     {safe(told['problem'])}")
        if promoted:
            click.echo(f"champion    {promoted['reason'] if not promoted['promoted'] else promoted['version']}")
        if told["url"]:
            click.echo(f"run         {told['url']}")


def _change(values: dict[str, Any], digits: int) -> str:
    before, after, difference, low, high = (values[name] for name in ("before", "after", "difference", "low", "high"))
    sides = f"{before:.{digits}f} -> {after:.{digits}f}"
    return f"{sides}, {difference:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


@finetune.command()
@common
def sync(settings: Settings) -> None:
    """Send what trainings told while MLflow was away, everything once.

    \b
    MLFLOW_TRACKING_URI=http://mlflow:5000 snapdex finetune sync
    """
    from pipelines import tracking

    with settings.progress() as progress:
        found = tracking.sync(settings.workspace, progress=progress)
    if settings.json:
        emit_json([each.to_json() for each in found])
        return
    for each in found:
        click.echo(
            f"{each.name}  {each.run_id or '-'}  {each.sent}/{each.records} records  {each.problem or ''}".rstrip()
        )
    if not found:
        click.echo("MLflow has everything")
