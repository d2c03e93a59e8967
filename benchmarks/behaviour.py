"""Fine-tuning a small language model, made here, to answer in JSON; what it gains, and what it unlearns.

SNIPS: an utterance as JSON with its intent and slots; 2,100 chats, judged on 200 of the 700 of validation. Trained once
with chats from before among the examples, so that they are not forgotten, and once without, for longer. The base has
read the utterances with an answer in words that is always the same; it has seen no JSON. Judged as
`snapdex finetune sft` judges. `notes.py` does the same for clinical notes.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.causal import make_causal
from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.workspaces import config_of, fresh_workspace, say
from pipelines import evaluate_behaviour, tune
from pipelines.config import Config
from pipelines.examples import Chat, Kind, read_examples, stage
from pipelines.files import Workspace

INTENTS = (
    "AddToPlaylist",
    "BookRestaurant",
    "GetWeather",
    "PlayMusic",
    "RateBook",
    "SearchCreativeWork",
    "SearchScreeningEvent",
)
SNIPS = {
    "type": "object",
    "required": ["intent", "slots"],
    "properties": {"intent": {"enum": list(INTENTS)}, "slots": {"type": "object"}},
    "additionalProperties": False,
}
HEARD = "I hear you."
TRAINING: dict[str, Any] = {"method": "full", "batch": 16, "learning_rate": 2e-3, "evaluations": 1, "max_tokens": 512}


def measure(options: Options) -> Report:
    report = Report("behaviour", "a Llama of 3 layers, 128 wide, pretrained here; utterances as JSON")
    with fresh_workspace() as workspace, real_data("snips-nlu", options.data) as snips:
        _snips(report, workspace, snips, quick=options.quick)
    return report


def _snips(report: Report, workspace: Workspace, snips: Path, *, quick: bool) -> None:
    root = workspace.root
    rows, judged = chats(snips / "train-small.jsonl"), chats(snips / "validate.jsonl")
    said = [chat.messages[1].content for chat in rows]
    write_rows(root / "snips.jsonl", map(row_of, rows))
    rehearsed = [*map(row_of, rows), *(heard(text) for text in said[::3])]
    write_rows(root / "snips-rehearsed.jsonl", rehearsed)
    write_rows(root / "snips-judged.jsonl", map(row_of, judged))
    others = [chat.messages[1].content for chat in judged]
    (root / "talk.txt").write_text("\n\n".join(f"User: {text}\n\nAssistant: {HEARD}" for text in others), "utf-8")
    (root / "snips.json").write_text(json.dumps({"json_schema": SNIPS}), "utf-8")
    system = rows[0].messages[0].content
    make_base(root / "base", [system, *(f"User: {text}\n\nAssistant: {HEARD}" for text in said)])
    settings = {
        **TRAINING,
        "evaluation": "snips-judged.jsonl",
        "checks": "snips.json",
        "general": "talk.txt",
        "answer_tokens": 120,
    }
    found = tuned(report, workspace, "snips", "sft", data="snips-rehearsed.jsonl", epochs=1 if quick else 6, **settings)
    metrics = found["metrics"]
    report.add("snips: format before", 100 * metrics["format"]["before"], "%", "< 5")
    report.add("snips: format after", 100 * metrics["format"]["after"], "%", ">= 95")
    report.add("snips: intent right", 100 * metrics["exact_match/intent"]["after"], "%", ">= 90")
    report.add("snips: all slots right", 100 * metrics["exact_match"]["after"], "%")
    worse = tuned(report, workspace, "snips-over", "sft", data="snips.jsonl", epochs=1 if quick else 10, **settings)
    report.add("snips, over-trained: refused", float(not worse["passed"]), "", "== 1")


def make_base(directory: Path, texts: list[str]) -> None:
    make_causal(directory, texts, width=128, layers=3, vocabulary=3000, steps=300, batch=16, block=96)
    say(f"behaviour: {directory.name} has read {len(texts):,} texts")


def tuned(report: Report, workspace: Workspace, name: str, kind: Kind, **settings: Any) -> dict[str, Any]:
    config = _config(kind, settings)
    made = stage.run(config, workspace, name, kind)
    trained = tune.run(config, workspace, name, kind)
    say(f"behaviour: {name}: {made.train} examples, {trained.facts.steps} steps, {trained.facts.history}")
    found = evaluate_behaviour.run(config, workspace, name, kind).found
    say(f"behaviour: {name}: {found['outcome']}: {found['reason']}; {found['problems']}")
    report.add(f"{name}: training", trained.facts.seconds / 60, "min")
    if growth := found["regression"]["growth"]:
        report.add(f"{name}: growth of the perplexity of talk", 100 * growth, "%")
    return found


def _config(kind: Kind, settings: dict[str, Any]) -> Config:
    section = {"base": "path:base", "judged": 200, **settings}
    return config_of(generate={"concurrency": 32}, **{kind: section})


def chats(path: Path) -> list[Chat]:
    return [each for each in read_examples(path) if isinstance(each, Chat)]


def row_of(chat: Chat) -> dict[str, Any]:
    return {"messages": [{"role": each.role, "content": each.content} for each in chat.messages]}


def heard(text: str) -> dict[str, Any]:
    """A chat from before, with what was learned then; it declares nothing."""
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": HEARD}]
    return {"messages": messages, "checks": {"max_words": 10}}


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
