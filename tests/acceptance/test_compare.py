"""compare, as users type it."""

import json

import pytest

from tests.compare import world
from tests.http_server import Server


@pytest.fixture(scope="module")
def workspace(new_workspace, write_tree):
    snapdex = new_workspace("compare")
    documents = write_tree(snapdex.root / "documents", world.documents())
    snapdex("run", documents, "-q")
    world.write_rows(snapdex.root / "ports.jsonl", world.knowledge())
    world.write_rows(snapdex.root / "forms.jsonl", world.both())
    with Server(world.speak) as chat:
        snapdex.talk = (
            *("--set", f"generate.endpoint={chat.url}"),
            *("--set", "embed.threads=1"),
            *("--set", "generate.price_per_million_prompt_tokens=2"),
        )
        yield snapdex


def test_the_table_and_what_to_do(workspace):
    said = workspace(
        "compare", "--golden", "ports.jsonl", "--set", "generate.model=openai:terse", *workspace.talk
    ).stdout
    lines = said.splitlines()
    assert " ".join(lines[0].split()).startswith("system quality gain over prompt only p95 s cost of 1,000 missing")
    assert "left out: fine-tuned: no --tuned" in lines
    assert "recommended: retrieval" in lines
    page = lines[-1].removeprefix("all of it: ")
    assert (workspace.root / page).read_text("utf-8").startswith("# Which remedy: retrieval\n")


def test_json_is_one_value_and_options_go_before_params(workspace):
    found = workspace.json(
        *("compare", "--golden", "forms.jsonl", "--tuned", "openai:formed", "--limit", "22", "--volume", "5000"),
        *("--changes", "daily", "--citations", "--latency", "60", "--examples-at-hand", "700"),
        *("--set", "generate.model=openai:plain", "--set", "compare.volume=7", *workspace.talk),
    )
    assert found["recommendation"]["remedy"] == "both"
    assert found["questions"] == 22
    case = found["case"]
    assert (case["volume"], case["knowledge_changes"], case["citations"]) == (5000, "daily", True)
    assert (case["latency_seconds"], case["examples"]) == (60.0, 700)
    cost = found["systems"]["RAG"]["expense"]
    assert cost["cost_per_month"] == pytest.approx(5 * cost["cost_per_thousand"])
    assert found["mlflow_run"] is None
    kept = json.loads((workspace.root / found["page"]).with_suffix(".json").read_text("utf-8"))
    assert kept == {key: value for key, value in found.items() if key != "mlflow_run"}


def test_errors(workspace):
    assert "there is no model that writes" in workspace("compare", "--golden", "ports.jsonl", code=2).error
    world.write_rows(workspace.root / "bare.jsonl", [{"question": "a", "documents": ["harbour.md"]}])
    assert "has no question with an answer" in workspace("compare", "--golden", "bare.jsonl", code=3).error
    world.write_rows(workspace.root / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    words = ("compare", "--golden", "ports.jsonl", "--examples", "pairs.jsonl")
    assert "pairs.jsonl has preferences" in workspace(*words, code=3).error
    assert "there is no golden set" in workspace("compare", "--golden", "none.jsonl", code=3).error


def test_what_was_measured_is_said_while_mlflow_is_away(workspace):
    workspace.environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    words = ("compare", "--golden", "ports.jsonl", "--limit", "3", "--set", "generate.model=openai:terse")
    ended = workspace.ending(*words, *workspace.talk, "--json")
    assert ended.code == 75
    assert "does not take the run" in ended.error
    assert json.loads(ended.stdout)["questions"] == 3
