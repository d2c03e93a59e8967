"""What is recommended where only one remedy can help: models that read, an index in Postgres, and nothing pretended.

The reader knows the codes of half of the names, copies a code from the source before it, and knows no JSON; the tuned
model is the same after it has seen chats in JSON.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.compare import world
from tests.compare.copying import INSTRUCTIONS, KNOWN, terse
from tests.compare.world import run_compare, write_rows
from tests.index.state import State


@pytest.fixture
def ports(state: State, reader: Path) -> State:
    state.write(world.documents()).run()
    return state.with_settings(
        f"generate.model=path:{reader}",
        "generate.threads=1",
        "generate.max_tokens=12",
        "generate.concurrency=24",
        f"compare.instructions={INSTRUCTIONS}",
        "embed.threads=1",
        "search.k=1",
    )


def compared(ports: State, tuned: Path, rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, float]]:
    """The report, and the quality of each system."""
    found = run_compare(ports, rows, tuned=f"path:{tuned}")
    return found, {name: each["metrics"]["quality"]["mean"] for name, each in found["systems"].items()}


def test_what_only_knowledge_solves_needs_retrieval(ports: State, tuned: Path) -> None:
    found, quality = compared(ports, tuned, world.knowledge())
    told = found["recommendation"]
    assert (told["remedy"], told["system"]) == ("retrieval", "RAG"), told
    assert quality["prompt only"] < 0.7 < 0.9 < quality["RAG"]
    assert found["systems"]["RAG"]["gain"]["low"] > 0.2
    lacking = found["systems"]["prompt only"]["failures"]
    assert lacking["missing knowledge"] >= 24 - len(KNOWN) - 3
    assert lacking["wrong behaviour"] == lacking["retrieval miss"] == 0


def test_what_only_behaviour_solves_needs_fine_tuning(ports: State, tuned: Path) -> None:
    found, quality = compared(ports, tuned, world.behaviour())
    assert found["recommendation"]["remedy"] == "fine-tuning", found["recommendation"]
    assert quality["prompt only"] == quality["RAG"] == 0.0
    assert quality["fine-tuned"] > 0.9
    assert found["systems"]["prompt only"]["failures"]["wrong behaviour"] == 24
    assert found["systems"]["fine-tuned"]["metrics"]["format"]["mean"] > 0.9


def test_what_needs_both_gets_both(ports: State, tuned: Path) -> None:
    found, quality = compared(ports, tuned, world.both())
    told = found["recommendation"]
    assert (told["remedy"], told["system"]) == ("both", "fine-tuned + RAG"), told
    assert quality["prompt only"] == quality["RAG"] == 0.0
    assert quality["fine-tuned"] < 0.9 < quality["fine-tuned + RAG"]
    assert found["systems"]["RAG"]["failures"]["wrong behaviour"] == 24


def test_search_is_spared_where_the_model_is_sure(ports: State, tuned: Path) -> None:
    """It knows half of the codes, and guesses the others with less confidence."""
    found, quality = compared(ports, tuned, world.knowledge())
    system, curve = found["systems"]["speculative"], found["speculative"]["curve"]
    assert system["questions"] == 12
    assert quality["speculative"] > 0.9
    assert 0.2 < system["retrievals"] < 0.8
    assert (curve[0]["retrievals"], curve[-1]["retrievals"]) == (0.0, 1.0)
    assert curve[0]["quality"] < 0.8 < 0.9 < curve[-1]["quality"]
    alone, searched, between = (found["systems"][name]["expense"] for name in ("prompt only", "RAG", "speculative"))
    assert alone["prompt_tokens"] < between["prompt_tokens"] < alone["prompt_tokens"] + searched["prompt_tokens"]
    assert 0 < alone["latency_p50_seconds"] <= alone["latency_p95_seconds"]


def test_what_the_model_cannot_read_is_left_out_of_its_prompt(ports: State, reader: Path) -> None:
    """Its window is 256 tokens; ten sources, or twenty examples, are more."""
    chats = [
        {
            "messages": [
                {"role": "user", "content": world.written_down(name, code)},
                {"role": "assistant", "content": terse(code)},
            ]
        }
        for name, code in world.CODES.items()
    ]
    examples = write_rows(ports.root / "chats.jsonl", chats)
    generous = State(ports.root, ports.url, ports.config.model_copy(update=more(ports, k=10, shots=20)))
    systems = run_compare(generous, world.knowledge()[:6], examples=examples)["systems"]
    for name in ("few-shot", "RAG"):
        assert 150 < systems[name]["expense"]["prompt_tokens"] <= 256 - 12


def more(state: State, *, k: int, shots: int) -> dict[str, Any]:
    search = state.config.search.model_copy(update={"k": k})
    return {"search": search, "compare": state.config.compare.model_copy(update={"shots": shots})}
