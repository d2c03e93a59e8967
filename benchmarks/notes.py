"""Fine-tuning a small language model, made here, to write clinical notes, and to prefer those of physicians.

MTS-Dialog: a dialogue as JSON with the section of a clinical note; judged on 100 of its validation. Its preferences:
the note of a physician rather than that of a model; judged on pairs that were held out. The base has read the dialogues
with an answer in words that is always the same, and has seen no JSON.
"""

import json
from pathlib import Path

from benchmarks.behaviour import HEARD, TRAINING, chats, heard, make_base, row_of, tuned, write_rows
from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.workspaces import kept_or_fresh
from pipelines.files import Workspace

NOTE = {
    "type": "object",
    "required": ["section_header", "section_text"],
    "properties": {"section_header": {"type": "string"}, "section_text": {"type": "string"}},
    "additionalProperties": False,
}
LONGEST_NOTE = 60  # words of the notes that are learned; a model of this size repeats itself in longer ones


def measure(options: Options) -> Report:
    report = Report("notes", "a Llama of 3 layers, 128 wide, pretrained here; dialogues as notes, and preferences")
    with kept_or_fresh(options.keep, "notes") as workspace, real_data("mts-dialog", options.data) as dialogues:
        _notes(report, workspace, dialogues, quick=options.quick)
        _preferences(report, workspace, dialogues, quick=options.quick)
    return report


def _notes(report: Report, workspace: Workspace, dialogues: Path, *, quick: bool) -> None:
    root = workspace.root
    rows, judged = (
        [chat for chat in chats(dialogues / f"sft-{part}.jsonl") if len(chat.answer.split()) <= LONGEST_NOTE]
        for part in ("train", "validation")
    )
    said = [chat.messages[1].content for chat in rows]
    write_rows(root / "notes.jsonl", [*map(row_of, rows), *(heard(text) for text in said[::3])])
    write_rows(root / "notes-judged.jsonl", map(row_of, judged))
    (root / "notes.json").write_text(json.dumps({"json_schema": NOTE}), "utf-8")
    make_base(root / "base-notes", [rows[0].messages[0].content, *said, *([HEARD] * 200)])
    found = tuned(
        report,
        workspace,
        "notes",
        "sft",
        data="notes.jsonl",
        evaluation="notes-judged.jsonl",
        checks="notes.json",
        epochs=1 if quick else 5,
        judged=100,
        **{**TRAINING, "base": "path:base-notes", "answer_tokens": 250},
    )["metrics"]
    report.add("notes: format before", 100 * found["format"]["before"], "%", "< 5")
    report.add("notes: format after", 100 * found["format"]["after"], "%", ">= 95")
    report.add("notes: section right", 100 * found["exact_match/section_header"]["after"], "%")
    report.add("notes: rouge-l of the answer", 100 * found["rouge_l"]["after"], "%")


def _preferences(report: Report, workspace: Workspace, dialogues: Path, *, quick: bool) -> None:
    """From the model that writes notes."""
    liked = tuned(
        report,
        workspace,
        "preferred",
        "dpo",
        data=str(dialogues / "dpo-human-vs-model.jsonl"),
        held_out=0.25,
        epochs=1 if quick else 4,
        beta=0.02,  # the default keeps so near to the base that few answers change sides
        **{**TRAINING, "base": "path:data/models/notes", "learning_rate": 2e-4, "answer_tokens": 16},
    )["metrics"]["preferred"]
    report.add("preferences: liked before", 100 * liked["before"], "%")
    report.add("preferences: liked after", 100 * liked["after"], "%")
    report.add("preferences: gain", 100 * liked["difference"], "points", ">= 10")
