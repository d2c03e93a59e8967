"""The gate on real versions: what hurts readers is not published, what does not is, and a few queries cannot tell."""

import json
import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import embed, index, ingest
from pipelines.embed import Encoder, load_encoder
from pipelines.errors import GateFailed
from pipelines.models import resolve_model
from tests.index.state import WORDS, State

COUNT = 24


def note(number: int, ending: str = "") -> str:
    """A document of one sentence, longer than 20 tokens, that says what no other says."""
    first, second = WORDS[number % 11], WORDS[(number // 11 + number + 1) % 11]
    middle = "in the cellar behind the second door on the left hand side of the long corridor"
    return f"# Note {number}\n\nThe {first} of the {second} is kept {middle} by keeper{number}{ending}.\n"


def gated(state: State, *settings: str, questions: int = COUNT) -> State:
    """24 documents published as version 1, with a golden set: a question for each, answered by a whole sentence."""
    state.write({f"d{n}.md": note(n) for n in range(COUNT)})
    rows = [
        {
            "question": f"where is the {note(n).split()[4]} of the {note(n).split()[7]} that keeper{n} has?",
            "documents": [f"d{n}.md#{note(n).split(chr(10))[2]}"],
        }
        for n in range(questions)
    ]
    (state.root / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    made = state.with_settings("gate.golden=golden.jsonl", "chunk.max_tokens=64", *settings)
    assert made.run()["metrics"]["ndcg@10"] > 0.9
    return made


def rejected(state: State) -> GateFailed:
    with pytest.raises(GateFailed) as caught:
        state.run()
    assert state.version("active").number == 1
    return caught.value


class Shuffled:
    """An encoder whose vectors are in the wrong order."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        order = list(range(len(texts)))
        random.Random(7).shuffle(order)
        return self._encoder.encode(texts)[order]

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoder.encode_queries(texts)


def test_half_of_the_documents_missing_fails(state: State) -> None:
    made = gated(state)
    for number in range(0, COUNT, 2):
        made.path(f"d{number}.md").unlink()
    error = rejected(made)
    assert error.context["gate"]["outcome"] == "fail"
    assert "over 24 queries" in str(error) and "--override REASON" in error.hint
    kept = made.version(2).gate
    assert kept is not None
    assert (kept["outcome"], kept["against"], kept["passed"]) == ("fail", 1, False)


def test_chunks_of_20_tokens_fail(state: State) -> None:
    made = gated(state)
    small = made.with_settings("gate.golden=golden.jsonl", "chunk.max_tokens=20")
    assert rejected(small).context["gate"]["outcome"] == "fail"


def test_shuffled_vectors_fail(state: State) -> None:
    made = gated(state, "search.mode=dense")
    made.write({f"d{n}.md": note(n, " now") for n in range(COUNT)})  # every chunk is new, so every vector is
    made._parse_here()
    config, workspace = made.config, made.workspace
    prepared = ingest.prepare(config, workspace)
    encoder = Shuffled(load_encoder(resolve_model(config.embed, workspace), config.embed))
    embedded = embed.run(config, workspace, encoder=encoder)
    report = ingest.report_of(prepared, embedded)
    built = index.build(config, workspace, epoch=prepared.forecast.epoch, report=report, quarantined=[])
    with pytest.raises(GateFailed) as caught:
        ingest.finish(config, workspace, report, built, publish=True, reason=None, began=0)
    assert caught.value.context["gate"]["outcome"] == "fail"


def test_typing_errors_mended_pass(state: State) -> None:
    made = gated(state)
    made.write({f"d{n}.md": note(n).replace("# Note", "# A note") for n in range(6)})
    report = made.run()
    assert (report["published"], report["gate"]["outcome"]) == (True, "pass")
    kept = made.version("active").gate
    assert kept is not None and kept["passed"]


@pytest.mark.parametrize(("undecided", "published"), [("difference", True), ("refuse", False)])
def test_five_queries_cannot_tell(state: State, undecided: str, published: bool) -> None:
    made = gated(state, f"gate.undecided={undecided}", questions=5)
    made.write({"more.md": "# More\n\nSomething harmless about nothing else."})
    decision = made.run()["gate"] if published else rejected(made).context["gate"]
    assert decision["outcome"] == "undecided"
    assert "5 queries cannot tell" in decision["reason"]


def test_the_decision_is_that_of_data_metrics(state: State) -> None:
    """One evaluation serves both: the candidate's value is what `data/metrics` says of it."""
    made = gated(state, "gate.tolerance=1.0")
    made.write({"d0.md": note(0, " again"), "more.md": "# More\n\nThe harbour is open."})
    report = made.run()
    assert report["gate"]["candidate"] == pytest.approx(report["metrics"]["ndcg@10"], abs=1e-6)
