"""Learn how a version is searched best: the weight of its legs and when it abstains, from the golden set.

It happens once, between sealing and publishing, and is kept with the version: what readers get from a version does not
change with golden sets that come later. The same files and golden set give the same numbers on any machine.
"""

from collections.abc import Sequence

from pipelines import evaluate
from pipelines.asking import affords_exact, asking
from pipelines.config import Config
from pipelines.evaluate.calibration import Evidence, Legs, Scored, learn_threshold, learn_weight, some
from pipelines.files import Workspace

MOST_QUESTIONS = 300  # more would move the third digit, and cost seconds at every publish
DEPTH = 100  # of a leg in hybrid search


def learn(config: Config, workspace: Workspace, version: int) -> dict[str, float]:
    """What searches in this version should use: `dense_weight`, and `threshold` with its two spreads.

    Learned on the golden set's train part where it has one, as exactly as the version affords. Empty where there is no
    golden set, or too small a one.
    """
    questions = some(evaluate.training_queries(config.gate, workspace.root), MOST_QUESTIONS)
    legs, evidence = [], []
    with asking(config, workspace, [question.text for question in questions]) as reader:
        exact = bool(questions) and affords_exact(reader, version)
        for question in questions:

            def leg(mode: str, text: str = question.text) -> Sequence[Scored]:
                hits = reader.search(
                    text, k=DEPTH, mode=mode, at=version, exact=exact, mmr=False, expand="chunk", rerank=False
                ).hits
                return [Scored(hit.chunk, (hit.document, *hit.also_in), hit.text, hit.score) for hit in hits]

            dense = leg("dense")
            legs.append(Legs(question, dense, leg("lexical")))
            evidence.append(Evidence(dense[0].score, reader.coverage(question.text, at=version)))
    weight = learn_weight(legs)
    learned = learn_threshold(evidence, config.search.false_refusals) or {}
    return learned if weight is None else {**learned, "dense_weight": weight}
