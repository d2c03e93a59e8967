"""What a stronger model says about pairs: how far an answer is from what is none (Hofstätter et al. 2020)."""

import math
from collections.abc import Sequence
from typing import Any

from pipelines.config import Config
from pipelines.embed import score_pairs
from pipelines.errors import InputError
from pipelines.files import Workspace
from pipelines.models import resolve_reranker

SCALE = 0.1  # from margins of a cross-encoder's logits, mostly below 10, to margins of cosines


def with_margins(rows: Sequence[dict[str, Any]], config: Config, workspace: Workspace) -> list[dict[str, Any]]:
    """The rows with `label`: how much better the positive is than each negative. Raises `InputError` without any."""
    if not all("negative_1" in row for row in rows):
        raise InputError(
            "a teacher compares answers with negatives, and the pairs have none", hint="pairs.negatives: 1"
        )
    teacher = resolve_reranker(config.finetune.teacher, workspace)
    labelled = []
    for row in rows:
        _, first, *others = row.values()
        best, *scores = (_logit(score) for score in score_pairs(teacher, row["query"], [first, *others]))
        margins = [SCALE * (best - score) for score in scores]
        labelled.append(row | {"label": margins[0] if len(margins) == 1 else margins})
    return labelled


def _logit(score: float) -> float:
    inside = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))
