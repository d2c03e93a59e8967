"""The page of a model: what it is made of, what it is good for, where it got worse."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.config import Config
from pipelines.evaluate_model.decide import METRIC, Decision
from pipelines.finetune import Facts
from pipelines.markdown import cell

if TYPE_CHECKING:
    from pipelines.evaluate_model import Result

SHOWN = 10  # queries of each kind


def page(name: str, results: Sequence["Result"], decision: Decision, facts: Facts, config: Config) -> str:
    """Markdown."""
    rows = "".join(_row(result) for result in results)
    home = results[0]
    parameters = ", ".join(f"{key} {value}" for key, value in sorted(facts.parameters.items()) if value not in ("", []))
    steps = sorted(facts.history, key=int)
    curve = "".join(f"| {step} | {facts.history[step]['ndcg@10']:.4f} |\n" for step in steps)
    return (
        f"# {name}\n\n"
        f"An embedding model for the index `{config.index.name}`, fine-tuned from `{facts.base}`"
        f" ({facts.base_revision[:12]}) on {facts.pairs:,} pairs.\n\n"
        f"**{decision.outcome}**: {decision.reason}.\n\n"
        f"| questions of | queries | {METRIC} before | after | difference, 95 % | better / worse |\n"
        f"|---|---|---|---|---|---|\n{rows}\n"
        f"Before: the model that was in use, `{home.against}`; every distance computed.\n\n"
        f"## Training\n\n{facts.steps} steps, the weights of step {facts.best_step}, {facts.seconds:.0f} s."
        f" {parameters}.\n\n"
        + (f"| step | {METRIC} on held-out pairs |\n|---|---|\n{curve}\n" if curve else "")
        + _changed(home, "## Questions that got worse\n\n", worse=True)
        + _changed(home, "## Questions that got better\n\n", worse=False)
    )


def _row(result: "Result") -> str:
    found = result.to_json()
    kind = result.corpus if result.in_domain else f"{result.corpus} (another domain)"
    text = (
        f"| {kind} | {found['queries']} | {found['before']:.4f} | {found['after']:.4f} |"
        f" {found['difference']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] |"
        f" {found['wins']} / {found['losses']} |\n"
    )
    if "unseen" in found:
        unseen = found["unseen"]
        text += (
            f"| of these, about documents that training had not | {unseen['queries']} | | |"
            f" {unseen['difference']:+.4f} [{unseen['low']:+.4f}, {unseen['high']:+.4f}] | |\n"
        )
    return text


def _changed(result: "Result", title: str, *, worse: bool) -> str:
    found = [each for each in result.comparison.changed if (each.difference < 0) == worse][:SHOWN]
    if not found:
        return ""
    rows = "".join(
        f"| {cell(each.after.question)} | {each.difference:+.2f} | {cell(', '.join(each.after.expected))} |"
        f" {cell(each.after.returned[0].document) if each.after.returned else 'nothing'} |\n"
        for each in found
    )
    return f"{title}| question | {METRIC} | answered by | first hit now |\n|---|---|---|---|\n{rows}\n"
