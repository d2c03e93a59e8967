"""Which remedy a problem needs: retrieval for knowledge, fine-tuning for behaviour, and nothing without a gain.

A remedy is recommended where its gain is measured: the whole interval of the paired difference is above zero. Between
two that are as good, what a person says about the case decides, and then the simpler one.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Literal

from pipelines.compare.answers import System, difference
from pipelines.compare.failures import failures_of
from pipelines.compare.speculative import NAME as SPECULATIVE
from pipelines.config import CompareConfig
from pipelines.evaluate_behaviour.compare import Difference

PROMPT, FEW_SHOT, RAG, TUNED, BOTH = "prompt only", "few-shot", "RAG", "fine-tuned", "fine-tuned + RAG"
Remedy = Literal["prompt only", "retrieval", "fine-tuning", "both"]
LEAST = 20  # questions; fewer cannot tell
FEW_EXAMPLES = 50  # below it fine-tuning mostly learns the examples themselves
ENOUGH_EXAMPLES = 500  # of the usual 500 to 5,000
MANY = 0.1  # of the questions: a kind of failure that often is worth a remedy
TOLERATED = 0.02  # of the quality: less is no loss
OFTEN = ("monthly", "weekly", "daily")


@dataclass(frozen=True)
class Recommendation:
    """`reasons`: why, the decisive one first; `next`: what to try or to be careful about."""

    remedy: Remedy
    system: str
    reasons: list[str]
    next: list[str] = field(default_factory=list)


def recommend(
    systems: Mapping[str, System], config: CompareConfig, p95_seconds: Mapping[str, float], examples: int
) -> Recommendation:
    """`systems`: those that were measured, prompt only among them; `examples`: chats at hand to learn from."""
    case = _Case(systems, config, p95_seconds)
    simple = FEW_SHOT if case.is_better(FEW_SHOT, PROMPT) else PROMPT
    chosen, reasons = case.best_of(simple)
    remedy: Remedy = {RAG: "retrieval", TUNED: "fine-tuning", BOTH: "both"}.get(chosen, "prompt only")  # type: ignore[assignment]
    reasons += case.said_by_person(chosen)
    return Recommendation(remedy, chosen, reasons, case.what_next(remedy, chosen, examples))


class _Case:
    """The measurements of one comparison, and the words for them."""

    def __init__(self, systems: Mapping[str, System], config: CompareConfig, p95_seconds: Mapping[str, float]) -> None:
        self._systems, self._config, self._p95 = systems, config, p95_seconds
        self._lacks = Counter(each.kind for each in failures_of(systems[PROMPT].answers))

    def is_better(self, one: str, other: str) -> bool:
        found = self._gain(one, other)
        return found is not None and found.low > 0

    def best_of(self, simple: str) -> tuple[str, list[str]]:
        """The system to choose, and why. `simple`: the better one of those without a remedy."""
        allowed = {name for name in self._systems if self._is_allowed(name)}
        helpful = [name for name in (RAG, TUNED) if name in allowed and self.is_better(name, simple)]
        chosen = helpful[0] if helpful else simple
        if len(helpful) == 2:
            chosen = self._one_of_two()
        if BOTH in allowed and self.is_better(BOTH, chosen):
            return BOTH, [self._words(BOTH, each) for each in (RAG, TUNED, simple) if each in self._systems]
        if chosen == simple:
            return self._without_gain(simple, allowed)
        reasons = [self._words(chosen, simple)]
        rest = [name for name in (RAG, TUNED, BOTH) if name in self._systems and name != chosen]
        return chosen, reasons + [self._words(name, chosen) for name in rest]

    def said_by_person(self, chosen: str) -> list[str]:
        """What was said about the case and agrees with the choice, or kept others out of it."""
        config, said = self._config, []
        with_sources = chosen in (RAG, BOTH)
        if config.citations:
            said.append(
                "an answer has to name its source, which only retrieval gives"
                if with_sources
                else "an answer has to name its source, and no system that can was measured"
            )
        if config.knowledge_changes in OFTEN and with_sources:
            said.append(f"the knowledge changes {config.knowledge_changes}: an index follows, weights do not")
        for name, seconds in self._p95.items():
            if self._is_slow(name):
                said.append(f"{name} is out: p95 is {seconds:.2f} s, and {config.latency_seconds:g} s are allowed")
        return said

    def what_next(self, remedy: Remedy, chosen: str, examples: int) -> list[str]:
        config, told = self._config, []
        system = self._systems[chosen]
        left = Counter(each.kind for each in failures_of(system.answers))
        often = {kind for kind, count in left.items() if count >= MANY * len(system.answers)}
        if len(system.answers) < LEAST:
            told.append(
                f"{len(system.answers)} questions are few: of fewer than {LEAST}, intervals are narrower than the truth"
            )
        if "missing knowledge" in often and RAG not in self._systems:
            told.append(
                f"{left['missing knowledge']} answers lack knowledge: publish an index of the documents and measure"
                " again"
            )
        if "retrieval miss" in often:
            told.append(f"search misses {left['retrieval miss']} answers: see snapdex eval, before any training")
        if "wrong behaviour" in often and TUNED not in self._systems:
            told.append(
                f"{left['wrong behaviour']} answers behave wrongly: fine-tune on {ENOUGH_EXAMPLES} to 5,000 chats"
                f" ({examples:,} are at hand) and measure again with --tuned"
            )
        if remedy in ("fine-tuning", "both") and examples < FEW_EXAMPLES:
            count = f"{examples} examples are few" if examples else "nobody said how many examples are at hand"
            told.append(f"{count}: {ENOUGH_EXAMPLES} to 5,000 are usual to learn from")
        if remedy in ("fine-tuning", "both") and self.is_better(FEW_SHOT, PROMPT):
            told.append(f"examples in the prompt help without training: {self._words(FEW_SHOT, PROMPT)}")
        if remedy == "fine-tuning" and config.knowledge_changes in OFTEN:
            told.append(f"the knowledge changes {config.knowledge_changes}: what the weights know of it will be wrong")
        if config.citations and chosen not in (RAG, BOTH):
            told.append("for citations, measure with an index")
        if chosen == RAG and self._is_not_worse(SPECULATIVE, RAG):
            share = mean(each.retrieved is not None for each in self._systems[SPECULATIVE].answers)
            told.append(f"searching only where the model is unsure, for {share:.0%} of the questions, is as good")
        if self._is_slow(chosen):
            told.append(f"{chosen} is slower than allowed, and nothing faster is better")
        return told

    def _is_not_worse(self, one: str, other: str) -> bool:
        found = self._gain(one, other)
        return found is not None and found.low >= -TOLERATED

    def _gain(self, one: str, other: str) -> Difference | None:
        both = one in self._systems and other in self._systems
        return difference(self._systems[other], self._systems[one]) if both else None

    def _is_slow(self, name: str) -> bool:
        return 0 < self._config.latency_seconds < self._p95.get(name, 0.0)

    def _is_allowed(self, name: str) -> bool:
        cites = name in (RAG, BOTH) or not self._config.citations
        return cites and not self._is_slow(name)

    def _one_of_two(self) -> str:
        """Retrieval and fine-tuning both help: the better one; else what was lacking says which.

        Weights that know what changes often are not chosen for it.
        """
        is_knowledge = self._lacks["missing knowledge"] > self._lacks["wrong behaviour"]
        if is_knowledge and self._config.knowledge_changes in OFTEN:
            return RAG
        for one, other in ((RAG, TUNED), (TUNED, RAG)):
            if self.is_better(one, other):
                return one
        return TUNED if self._lacks["wrong behaviour"] > self._lacks["missing knowledge"] else RAG

    def _without_gain(self, simple: str, allowed: set[str]) -> tuple[str, list[str]]:
        reasons = [self._words(simple, PROMPT)] if simple != PROMPT else []
        measured = [name for name in (RAG, TUNED, BOTH) if name in self._systems]
        reasons += [f"no gain is sure: {self._words(name, simple)}" for name in measured]
        if self._config.citations:
            for name in (RAG, BOTH):
                if name in allowed:
                    return name, reasons
        return simple, reasons or ["nothing else was measured"]

    def _words(self, one: str, other: str) -> str:
        found = self._gain(one, other)
        assert found is not None
        return (
            f"{one} against {other}: {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
            f" over {found.queries} questions, {found.before:.3f} to {found.after:.3f}"
        )
