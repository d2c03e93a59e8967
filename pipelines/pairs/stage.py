"""The stage `pairs`: from a version of the index to files of pairs."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipelines.asking import asking
from pipelines.config import Config, SearchConfig
from pipelines.errors import InputError, NotFoundError
from pipelines.evaluate import golden_queries
from pipelines.files import Workspace
from pipelines.index.build import read_recorded
from pipelines.models import resolve_model
from pipelines.pairs import HELD_OUT, TRAIN, check_for, pairs_folder, refuse
from pipelines.pairs.judgements import judged, written
from pipelines.pairs.mine import Synthetic, mine, synthetic
from pipelines.pairs.negatives import Candidate, add_negatives, texts_of
from pipelines.pairs.rows import Pair, write_pairs
from pipelines.pairs.split import grouped, is_held_out
from pipelines.pairs.text import normalised
from pipelines.progress import Progress, Silent


@dataclass(frozen=True)
class PairsReport:
    """What was made. `sources`: how many pairs came from where; `dropped`: and how many were left out, and why."""

    train: int
    held_out: int
    sources: dict[str, int]
    negatives: int
    dropped: dict[str, int]
    warnings: list[str]
    version: int
    snapshot: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run(config: Config, workspace: Workspace, name: str, *, progress: Progress | None = None) -> PairsReport:
    """Make the pairs of the model `name` from the version that this workspace built last.

    The same version, judgements and parameters give the same bytes. Raises `NotFoundError` where nothing was built,
    `InputError` where nothing can be learned from, or the rows that a person wrote are wrong.
    """
    began = time.perf_counter()
    progress = progress or Silent()
    built = read_recorded(workspace, config.index.name)
    if built is None:
        raise NotFoundError("no version was built from this workspace", hint="build one: snapdex run, or dvc repro")
    drafted = synthetic(config, workspace, progress)
    found = _candidates(config, workspace, built.version, drafted, progress)
    pairs, dropped = _distinct(found, {normalised(each.text) for each in golden_queries(config.gate, workspace.root)})
    dropped["no good question written"] = drafted.failed
    if not pairs:
        raise InputError(
            "there is nothing to learn from: no judgement names a document of this version, and nothing was mined",
            hint="set pairs.judgements, or pairs.mined above 0",
        )
    folder = pairs_folder(workspace, name)
    sides: tuple[list[Pair], list[Pair]] = [], []
    for pair in grouped(pairs):
        sides[is_held_out(pair.group, config.pairs)].append(pair)
    kept, held_out = sides
    write_pairs(folder / HELD_OUT, held_out)
    write_pairs(folder / TRAIN, kept)
    base = resolve_model(config.base, workspace, key=config.base_key)
    found_wrong = check_for(folder / TRAIN, base, against=folder / HELD_OUT)
    leaking = {each.line for each in found_wrong.findings if each.level == "error"}
    if leaking:  # of passages that stand in several documents, one side keeps them
        dropped["too near to held-out ones"] += len(leaking)
        kept = [pair for line, pair in enumerate(kept, 1) if line not in leaking]
        write_pairs(folder / TRAIN, kept)
        found_wrong = check_for(folder / TRAIN, base, against=folder / HELD_OUT)
    refuse(folder / TRAIN, found_wrong)
    return PairsReport(
        train=len(kept),
        held_out=len(held_out),
        sources=dict(sorted(Counter(pair.source for pair in [*kept, *held_out]).items())),
        negatives=sum(len(pair.negatives) for pair in kept),
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
        warnings=[f"{each.kind}: {each.detail}" for each in found_wrong.findings if each.level == "warning"],
        version=built.version,
        snapshot=built.snapshot,
        seconds=time.perf_counter() - began,
    )


def _candidates(
    config: Config, workspace: Workspace, version: int, drafted: Synthetic, progress: Progress
) -> list[Pair]:
    """Pairs with their texts, from every source, not yet divided."""
    judgements = judged(config.pairs, workspace.root)
    mined = [*mine(config.pairs, workspace, config.index.name), *drafted.wanted]
    progress.start("pairs", len(judgements) + len(mined))
    plain = SearchConfig(mode="dense", cache=0)  # as the model finds by itself
    asked = [each.query for each in judgements] + [each.query for each in mined]
    candidates: list[Candidate] = []
    with asking(config.model_copy(update={"search": plain}), workspace, asked) as reader:
        for each in [*judgements, *mined]:
            candidates += add_negatives(reader, version, each, config.pairs)
            progress.advance()
    return [*written(config.pairs, workspace.root), *texts_of(candidates, workspace)]


def _distinct(pairs: Sequence[Pair], held: set[str]) -> tuple[list[Pair], Counter[str]]:
    """Without repeated rows and without the questions of the golden set, which are `held` for its judgement."""
    kept: dict[tuple[str, str], Pair] = {}
    dropped: Counter[str] = Counter()
    for pair in pairs:
        query, positive = normalised(pair.query), normalised(pair.positive)
        if query in held:
            dropped["questions of gate.golden"] += 1
        elif not query or not positive or query == positive:
            dropped["say nothing"] += 1
        elif (query, positive) in kept:
            dropped["repeated"] += 1
        else:
            others = tuple(text for text in pair.negatives if normalised(text) not in ("", query, positive))
            kept[query, positive] = replace(pair, negatives=others)
    good: dict[str, set[str]] = {}
    for query, positive in kept:
        good.setdefault(query, set()).add(positive)
    pure = [
        replace(pair, negatives=tuple(text for text in pair.negatives if normalised(text) not in good[query]))
        for (query, _), pair in kept.items()
    ]
    return pure, dropped
