"""The page of a language model: what it learned from, how it behaves now, what it unlearned, what it gets wrong."""

from collections.abc import Mapping
from typing import Any

from pipelines.config import Config
from pipelines.finetune import Facts
from pipelines.markdown import short

SHOWN = 12  # samples
LENGTH = 160  # characters of each text in a table


def page(found: Mapping[str, Any], facts: Facts, config: Config) -> str:
    """Markdown, from what `data/metrics/models/NAME.json` says."""
    parameters = ", ".join(f"{key} {value}" for key, value in sorted(facts.parameters.items()) if value not in ("", []))
    steps = sorted(facts.history, key=int)
    curve = "".join(f"| {step} | {facts.history[step]['loss']:.4f} |\n" for step in steps)
    how = {"sft": "chats", "dpo": "preferences"}[found["kind"]]
    return (
        f"# {found['model']}\n\n"
        f"A language model, fine-tuned from `{facts.base}` ({facts.base_revision[:12]}) on {facts.pairs:,} {how}.\n\n"
        f"**{found['outcome']}**: {found['reason']}.\n\n"
        f"| of {found['examples']} held-out examples | examples | before | after | difference, 95 % |\n"
        f"|---|---|---|---|---|\n{''.join(_metric(*each) for each in found['metrics'].items())}\n"
        f"Before: the model that was in use, `{found['against']}`. Both answered by the likeliest token.\n\n"
        f"## What was unlearned\n\n{_regression(found['regression'])}\n\n"
        f"## What goes wrong\n\n| | before | after |\n|---|---|---|\n{_problems(found['problems'])}\n"
        f"## Samples\n\n| asked | expected | before | after | what is wrong |\n|---|---|---|---|---|\n"
        f"{''.join(_sample(each) for each in found['samples'][:SHOWN])}\n"
        f"## Training\n\n{facts.steps} steps, the weights of step {facts.best_step}, {facts.seconds:.0f} s."
        f" {parameters}.\n\n" + (f"| step | loss on held-out examples |\n|---|---|\n{curve}\n" if curve else "")
    )


def _metric(name: str, values: Mapping[str, float]) -> str:
    return (
        f"| {name} | {values['queries']} | {values['before']:.3f} | {values['after']:.3f} |"
        f" {values['difference']:+.3f} [{values['low']:+.3f}, {values['high']:+.3f}] |\n"
    )


def _regression(values: Mapping[str, Any]) -> str:
    lines = []
    if found := values["perplexity"]:
        sides = f"{found['before']:.1f} before, {found['after']:.1f} after"
        lines.append(f"Perplexity of general texts: {sides} ({values['growth']:+.0%}).")
    if found := values["chats"]:
        sides = f"{found['before']:.3f} before, {found['after']:.3f} after"
        lines.append(f"Words (f1) of the answers to general chats: {sides}.")
    return " ".join(lines) or "Not measured: set `general` or `general_chats`."


def _problems(problems: Mapping[str, Mapping[str, int]]) -> str:
    kinds = sorted(problems["before"].keys() | problems["after"].keys())
    return "".join(
        f"| {kind} | {problems['before'].get(kind, 0)} | {problems['after'].get(kind, 0)} |\n" for kind in kinds
    )


def _sample(sample: Mapping[str, str]) -> str:
    texts = (sample["prompt"], sample["expected"], sample["before"], sample["after"])
    wrong = f"{sample['problem']}: {sample['detail']}" if sample["problem"] else ""
    return f"| {' | '.join(short(text, LENGTH) for text in (*texts, wrong))} |\n"
