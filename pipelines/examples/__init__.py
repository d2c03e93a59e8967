"""examples: what a language model is fine-tuned with, chats or preferences, checked and divided.

    data file (sft.data, dpo.data)  -->  data/examples/NAME/train.jsonl, held-out.jsonl

- `rows.py`: the rows of such files           - `checks.py`: what an answer must fulfil
"""

from pathlib import Path

from pipelines.examples.rows import Chat, Example, Messages, Preference, read_examples, write_examples
from pipelines.files import Workspace
from pipelines.generate import Message

__all__ = [
    "HELD_OUT",
    "TRAIN",
    "Chat",
    "Example",
    "Message",
    "Messages",
    "Preference",
    "examples_folder",
    "read_examples",
    "write_examples",
]

TRAIN, HELD_OUT = "train.jsonl", "held-out.jsonl"


def examples_folder(workspace: Workspace, name: str) -> Path:
    return workspace.root / "data" / "examples" / name
