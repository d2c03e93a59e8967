"""evaluate_behaviour: does a fine-tuned language model behave as its examples do, and what did it unlearn?

    data/models/NAME + held-out examples + general texts  -->  data/metrics/models/NAME.json, NAME.md

The candidate and the model that it would replace answer the same held-out prompts, always by the likeliest token.

- `score.py`: what one answer is worth          - `compare.py`: two models before the same examples
- `decide.py`: whether the candidate is promoted       - `card.py`: the model's page, for people
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipelines.config import BehaviourConfig, Config
from pipelines.errors import InputError
from pipelines.evaluate_behaviour.card import page
from pipelines.evaluate_behaviour.compare import (
    Behaviour,
    behave,
    difference,
    general_chats,
    general_texts,
)
from pipelines.evaluate_behaviour.decide import decide, regression
from pipelines.evaluate_model import ModelReport, card_file, known_report, metrics_file
from pipelines.examples import HELD_OUT, Example, Kind, examples_folder, read_examples, section_of
from pipelines.files import Workspace, atomic_write, file_sha256
from pipelines.finetune import model_folder, read_facts
from pipelines.model import canonical_json, digest
from pipelines.models import Generator, resolve_generator
from pipelines.progress import Progress, Silent
from pipelines.tune import base_of

__all__ = ["conditions", "run", "serving_of"]

SHOWN = 8  # answers of each kind that the report keeps


class BehaviourReport(ModelReport):
    """What `data/metrics/models/NAME.json` says of a language model."""

    @property
    def against(self) -> str:
        return str(self.found["against"])

    def metrics(self) -> dict[str, float]:
        """The numbers, named METRIC/before, METRIC/after, METRIC/difference; and those of what was unlearned."""
        sides = {
            **self.found["metrics"],
            **{key: self.found["regression"][key] or {} for key in ("perplexity", "chats")},
        }
        return {
            f"{metric}/{name}": float(values[name])
            for metric, values in sides.items()
            for name in ("before", "after", "difference", "low", "high")
            if name in values
        }


def serving_of(config: Config, workspace: Workspace, kind: Kind) -> Generator:
    """The model that a candidate is compared with: `generate.model`, or the one that training began with."""
    if config.generate.model:
        return resolve_generator(config.generate, workspace)
    return base_of(config, workspace, kind)


def conditions(config: Config, workspace: Workspace, name: str, kind: Kind) -> str:
    """64 hex digits over what a judgement depends on beside the model."""
    settings = section_of(config, kind)
    parts = [serving_of(config, workspace, kind).revision, file_sha256(examples_folder(workspace, name) / HELD_OUT)]
    parts += [file_sha256(workspace.root / place) for place in (settings.general, settings.general_chats) if place]
    parts.append(canonical_json([settings.metric, settings.judged, settings.answer_tokens, settings.forgetting]))
    return digest("evaluate_behaviour 1", *parts).hex()


def run(
    config: Config, workspace: Workspace, name: str, kind: Kind, *, progress: Progress | None = None
) -> ModelReport:
    """Judge `data/models/NAME` and write what was found; whether it is promoted is decided here and nowhere else.

    Nothing to do where the same was judged before. Raises `InputError` where there is no such model.
    """
    began = time.perf_counter()
    progress = progress or Silent()
    settings = section_of(config, kind)
    facts = read_facts(model_folder(workspace, name))
    if facts is None:
        raise InputError(f"there is no model {name}", hint=f"train it: snapdex finetune {kind} {name}")
    of = {"fingerprint": facts.fingerprint, "conditions": conditions(config, workspace, name, kind)}
    known = known_report(workspace, name)
    if known.items() >= of.items():
        return BehaviourReport(known, False, time.perf_counter() - began)
    examples = _judged(workspace, name, settings)
    texts = general_texts(workspace.root / settings.general) if settings.general else []
    chats = general_chats(workspace.root / settings.general_chats, settings.judged) if settings.general_chats else []
    candidate = resolve_generator(config.generate.with_model(f"path:{model_folder(workspace, name)}"), workspace)
    progress.start("evaluate_behaviour", 2 * (len(examples) + len(chats)))
    before, after = (
        behave(model, config.generate.greedy(), settings, examples, texts, chats, progress)
        for model in (serving_of(config, workspace, kind), candidate)
    )
    elsewhere = regression(before, after)
    decision = decide(difference(before, after, settings.metric), elsewhere, settings)
    found: dict[str, Any] = {
        "model": name,
        "kind": kind,
        **of,
        "passed": decision.passed,
        "outcome": decision.outcome,
        "reason": decision.reason,
        "metric": settings.metric,
        "against": before.model,
        "examples": len(examples),
        "metrics": _metrics(before, after),
        "regression": asdict(elsewhere),
        "problems": {"before": dict(before.problems()), "after": dict(after.problems())},
        "samples": _samples(before, after),
        "tokens_per_second": round(after.tokens / after.seconds, 1) if after.seconds else 0.0,
    }
    atomic_write(card_file(workspace, name), page(found, facts, config))
    atomic_write(metrics_file(workspace, name), json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return BehaviourReport(found, True, time.perf_counter() - began)


def _judged(workspace: Workspace, name: str, settings: BehaviourConfig) -> Sequence[Example]:
    """Of many held-out examples always the same ones, in the order of the file."""
    path = examples_folder(workspace, name) / HELD_OUT
    examples = list(read_examples(path))
    if not examples:
        raise InputError("there is nothing to judge the model by", hint="set evaluation, or held_out above 0")
    ranked = sorted(range(len(examples)), key=lambda place: digest(str(settings.seed), str(place)))
    return [examples[place] for place in sorted(ranked[: settings.judged])]


def _metrics(before: Behaviour, after: Behaviour) -> dict[str, dict[str, float]]:
    names = dict.fromkeys(name for side in (before, after) for each in side.answers for name in each.score.metrics)
    found = {name: difference(before, after, name) for name in names}
    return {name: asdict(each) for name, each in found.items() if each is not None}


def _samples(before: Behaviour, after: Behaviour) -> list[dict[str, str]]:
    """Answers before and after: failures first, of each kind a few, and a few that are right."""
    counted: dict[str, int] = {}
    samples = []
    pairs = sorted(zip(before.answers, after.answers, strict=True), key=lambda pair: not pair[1].score.problem)
    for old, new in pairs:
        problem = new.score.problem
        counted[problem] = counted.get(problem, 0) + 1
        if counted[problem] <= SHOWN:
            samples.append(
                {
                    "prompt": new.example.prompt[-1].content,
                    "expected": new.example.answer,
                    "before": old.text,
                    "after": new.text,
                    "problem": problem,
                    "detail": new.score.detail,
                }
            )
    return samples
