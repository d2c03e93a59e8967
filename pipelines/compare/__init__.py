"""compare: which remedy a problem needs, by measuring each of them on the same questions.

    golden set with answers  -->  prompt only, few-shot, RAG, fine-tuned, both, speculative  -->  a recommendation

What is not possible, for want of examples, an index or a fine-tuned model, is left out and said so.

- `questions.py`: what is asked, and what an answer is worth      - `prompts.py`, `shots.py`: what a model is told
- `retrieve.py`: what search finds for it      - `speak.py`: a model that answers      - `answers.py`: what that took
- `speculative.py`: search only where the model is unsure         - `failures.py`: what a wrong answer lacked
- `recommend.py`: the remedy, with reasons                        - `page.py`: the report, for people
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from pipelines import tracking
from pipelines.compare.answers import System, difference, expense
from pipelines.compare.failures import KINDS, failures_of
from pipelines.compare.page import page
from pipelines.compare.prompts import instructions_of
from pipelines.compare.questions import METRICS, Question, questions_of
from pipelines.compare.recommend import BOTH, FEW_SHOT, PROMPT, RAG, TUNED, recommend
from pipelines.compare.retrieve import Found, active_version, retrieve
from pipelines.compare.shots import choose_shots, read_chats
from pipelines.compare.speak import Speaker
from pipelines.compare.speculative import LEAST, NAME, Point, speculate
from pipelines.config import Config
from pipelines.errors import InputError
from pipelines.evaluate import read_golden
from pipelines.evaluate.metrics import interval
from pipelines.evaluate.outputs import golden_sha256
from pipelines.examples import Chat, read_checks
from pipelines.examples.checks import declared_wrong
from pipelines.files import Workspace, atomic_write
from pipelines.generate import load_generator
from pipelines.models import Generator, resolve_generator
from pipelines.progress import Progress, Silent

__all__ = ["Asking", "run", "track"]

SHOWN = 5  # failures of each kind that the report keeps
DIGEST_DIGITS = 32  # MLflow takes 36


@dataclass(frozen=True)
class Asking:
    """What is compared. `tuned`: a name as in `generate.model`; `checks`: a file, for questions that declare none."""

    golden: Path
    split: str = "test"
    examples: Path | None = None
    checks: Path | None = None
    tuned: str = ""
    limit: int | None = None


@dataclass
class _Measured:
    """What was found so far. `left_out`: systems and why."""

    systems: dict[str, System] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    threshold: float | None = None
    curve: list[Point] = field(default_factory=list)

    def add(self, system: System) -> None:
        self.systems[system.name] = system


def run(config: Config, workspace: Workspace, asking: Asking, *, progress: Progress | None = None) -> dict[str, Any]:
    """Measure every system that is possible, write `data/metrics/compare/GOLDEN.json` and `.md`, and return what stands
    there.

    Raises `ConfigError` without `generate.model`, `InputError` where nothing can be judged.
    """
    progress = progress or Silent()
    chats = read_chats(asking.examples) if asking.examples else []
    queries = read_golden(asking.golden, asking.split)
    questions, unjudged = questions_of(queries, _checks(asking, chats), asking.limit)
    if not questions:
        raise InputError(
            f"{asking.golden} has no question with an answer", hint='give its rows "answer", as in docs/compare.md'
        )
    _check_declared(asking.golden, questions)
    models = _models(config, workspace, asking.tuned)
    version = active_version(config, workspace)
    found = retrieve(config, workspace, version.number, questions, progress) if version else None
    shots = choose_shots(config, workspace, chats, questions) if chats else None
    instructions = config.compare.instructions or instructions_of(chats)
    measured = _measure(config, models, instructions, questions, shots, found, progress)
    systems = measured.systems
    expenses = {name: expense(each, config.generate, config.compare.volume) for name, each in systems.items()}
    examples = config.compare.examples or len(chats)
    p95 = {name: each.latency_p95_seconds for name, each in expenses.items()}
    report: dict[str, Any] = {
        "golden": str(asking.golden),
        "golden_sha256": golden_sha256(asking.golden),
        "questions": len(questions),
        "unanswerable": sum(not each.answers for each in questions),
        "without_answer": unjudged,
        "index": config.index.name,
        "version": version.number if version else None,
        "snapshot": version.snapshot if version else None,
        "metric": config.compare.metric,
        "case": config.compare.model_dump() | {"examples": examples},
        "systems": {
            name: _system_json(each, systems[PROMPT]) | {"expense": asdict(expenses[name])}
            for name, each in systems.items()
        },
        "left_out": measured.left_out,
        "speculative": _speculative_json(measured) if measured.curve else None,
        "recommendation": asdict(recommend(systems, config.compare, p95, examples)),
    }
    _write(workspace, asking.golden, report)
    return report


def track(config: Config, report: Mapping[str, Any]) -> tracking.Tracked | None:
    """A run of MLflow with a child for each system; None where MLflow is not configured.

    Raises `ServiceUnavailable` when it does not take them.
    """
    if not tracking.is_configured():
        return None
    tags = {f"snapdex.{key}": report[key] for key in ("index", "version", "snapshot")}
    dataset = tracking.Dataset(report["golden"], report["golden_sha256"][:DIGEST_DIGITS], report["questions"])
    whole = tracking.track(
        config.index.name,
        f"compare {Path(report['golden']).name}",
        params=report["case"],
        metrics={},
        tags=tags | {"snapdex.remedy": report["recommendation"]["remedy"]},
        dataset=dataset,
        pages={"compare.md": page(report)},
    )
    for name, each in report["systems"].items():
        metrics = {metric: values["mean"] for metric, values in each["metrics"].items()} | each["expense"]
        metrics |= {f"failures/{kind.replace(' ', '_')}": count for kind, count in each["failures"].items()}
        tracking.track(
            config.index.name,
            f"compare {name.replace('+', 'and')}",
            params={"system": name, "model": each["model"]},
            metrics=metrics,
            tags=tags,
            dataset=dataset,
            parent=whole.run_id,
        )
    return whole


def _measure(
    config: Config,
    models: tuple[Generator, Generator | None],
    instructions: str,
    questions: Sequence[Question],
    shots: Mapping[str, Sequence[Chat]] | None,
    found: Mapping[str, Found] | None,
    progress: Progress,
) -> _Measured:
    measured = _Measured()
    generate = config.generate.greedy()
    config = config.model_copy(update={"generate": generate})
    no_index = f"the index {config.index.name} has no active version"
    base, tuned = models
    with load_generator(base, generate) as loaded:
        speaker = Speaker(base, loaded, config, instructions)
        measured.add(speaker.alone(PROMPT, questions, progress))
        if shots is not None:
            measured.add(speaker.after_examples(FEW_SHOT, questions, shots, progress))
        else:
            measured.left_out[FEW_SHOT] = "no --examples"
        if found is not None:
            measured.add(speaker.with_sources(RAG, questions, found, progress))
        else:
            measured.left_out[RAG] = no_index
    if tuned is not None:
        with load_generator(tuned, generate) as loaded:
            speaker = Speaker(tuned, loaded, config, instructions)
            measured.add(speaker.alone(TUNED, questions, progress))
            if found is not None:
                measured.add(speaker.with_sources(BOTH, questions, found, progress))
            else:
                measured.left_out[BOTH] = no_index
    else:
        measured.left_out |= dict.fromkeys((TUNED, BOTH), "no --tuned")
    _speculate(measured, base.kind == "folder", len(questions))
    return measured


def _models(config: Config, workspace: Workspace, tuned: str) -> tuple[Generator, Generator | None]:
    """The model in use and the fine-tuned one: a name that is wrong is refused before anything is asked."""
    base = resolve_generator(config.generate, workspace)
    return base, resolve_generator(config.generate.with_model(tuned), workspace) if tuned else None


def _speculate(measured: _Measured, confident: bool, questions: int) -> None:
    if RAG not in measured.systems:
        measured.left_out[NAME] = measured.left_out[RAG]
    elif not confident:
        measured.left_out[NAME] = "a model at an endpoint does not tell how likely its answers are"
    elif questions < LEAST:
        measured.left_out[NAME] = f"{questions} questions cannot be halved"
    else:
        system, measured.threshold, measured.curve = speculate(measured.systems[PROMPT], measured.systems[RAG])
        measured.add(system)


def _checks(asking: Asking, chats: Sequence[Chat]) -> dict[str, Any]:
    """What answers must fulfil where a question says nothing: the file, else what all examples declare alike."""
    if asking.checks:
        return read_checks(asking.checks)
    declared = [dict(chat.checks) for chat in chats]
    return declared[0] if declared and all(each == declared[0] for each in declared) else {}


def _check_declared(golden: Path, questions: Sequence[Question]) -> None:
    for question in questions:
        if wrong := declared_wrong(question.checks):
            raise InputError(f"{golden}, question {question.id}: {wrong}", hint="see docs/behaviour.md")


def _system_json(system: System, alone: System) -> dict[str, Any]:
    metrics = {}
    for metric in METRICS:
        values = list(system.values(metric).values())
        if values:
            low, high = interval(values)
            metrics[metric] = {"questions": len(values), "mean": sum(values) / len(values), "low": low, "high": high}
    gain = difference(alone, system) if system is not alone else None
    failures = failures_of(system.answers)
    by_kind = {kind: [each for each in failures if each.kind == kind] for kind in KINDS}
    searched = [each.retrieved is not None for each in system.answers]
    return {
        "model": system.model,
        "questions": len(system.answers),
        "metrics": metrics,
        "gain": asdict(gain) if gain else None,
        "retrievals": sum(searched) / len(searched),
        "failures": {kind: len(each) for kind, each in by_kind.items()},
        "samples": [
            {
                "kind": each.kind,
                "why": each.why,
                "question": each.answered.question.text,
                "expected": " or ".join(each.answered.question.answers) or "to abstain",
                "said": each.answered.text,
                "documents": list(each.answered.retrieved.documents[:SHOWN]) if each.answered.retrieved else [],
            }
            for kind in KINDS
            for each in by_kind[kind][:SHOWN]
        ],
    }


def _speculative_json(measured: _Measured) -> dict[str, Any]:
    curve = [asdict(each) | {"threshold": _finite(each.threshold)} for each in measured.curve]
    return {"threshold": _finite(measured.threshold), "curve": curve}


def _finite(threshold: float | None) -> float | None:
    """A threshold beyond every confidence is null: infinity is no JSON."""
    return threshold if threshold is not None and isfinite(threshold) else None


def _write(workspace: Workspace, golden: Path, report: dict[str, Any]) -> None:
    folder = workspace.root / "data" / "metrics" / "compare"
    name = golden.stem if golden.is_file() else golden.resolve().name
    report["page"] = str((folder / f"{name}.md").relative_to(workspace.root))
    atomic_write(folder / f"{name}.md", page(report))
    atomic_write(folder / f"{name}.json", json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
