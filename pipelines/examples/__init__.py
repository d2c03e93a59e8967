"""examples: what a language model is fine-tuned with, chats or preferences, checked and divided.

    sft.data, dpo.data  -->  data/examples/NAME/train.jsonl, held-out.jsonl, check.json

Rows that share a group, or else the prompt, are either learned from or held out.

- `stage.py`: the stage itself; the rest is light to import
- `rows.py`: the rows of such files           - `checks.py`: what an answer must fulfil
- `check.py`: what is wrong with a file, by way of `columns.py`, `leakage.py`, `personal.py`, `said.py`
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pipelines.config import BehaviourConfig, Config
from pipelines.examples.check import check
from pipelines.examples.checks import read_checks
from pipelines.examples.rows import Chat, Example, Messages, Preference, read_examples, write_examples
from pipelines.files import Workspace
from pipelines.generate import Message
from pipelines.models.resolve import named_folder
from pipelines.models.tokens import open_tokenizer
from pipelines.pairs.check import Checked
from pipelines.pairs.rows import lines

__all__ = [
    "CHECK",
    "HELD_OUT",
    "TRAIN",
    "Chat",
    "Example",
    "Kind",
    "Message",
    "Messages",
    "Preference",
    "check",
    "check_for",
    "examples_folder",
    "kind_of",
    "read_checks",
    "read_examples",
    "section_of",
    "write_examples",
]

TRAIN, HELD_OUT, CHECK = "train.jsonl", "held-out.jsonl", "check.json"

Kind = Literal["sft", "dpo"]


def examples_folder(workspace: Workspace, name: str) -> Path:
    return workspace.root / "data" / "examples" / name


def section_of(config: Config, kind: Kind, name: str = "") -> BehaviourConfig:
    """The section that says how such a model is made, with the data of the model `name` where that has its own."""
    section: BehaviourConfig = config.sft if kind == "sft" else config.dpo
    named = config.language_models.get(name)
    return section if named is None or named.kind != kind else section.model_copy(update={"data": named.data})


def kind_of(path: Path) -> Kind | None:
    """What the rows of `path` are for, by the first line that can be read: chats, preferences, or something else."""
    for _, line in lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            return "dpo" if {"prompt", "chosen", "rejected"} & row.keys() else "sft" if "messages" in row else None
    return None


def check_for(
    section: BehaviourConfig, workspace: Workspace, path: Path, *, against: Path | None = None, pii: bool = False
) -> Checked:
    """What is wrong with a file of examples for the model and with the checks that `section` names.

    Tokens are counted where `base` is a folder of a model.
    """
    checks = read_checks(workspace.root / section.checks) if section.checks else None
    tokens = _counter(section.base, workspace)
    return check(path, against=against, checks=checks, tokens=tokens, max_tokens=section.max_tokens, pii=pii)


def _counter(base: str, workspace: Workspace) -> Callable[[Sequence[str]], Sequence[int]] | None:
    markers = ["config.json", "adapter_config.json"]
    directory = named_folder(base, workspace, markers=markers, key="base", missing_ok=True)
    if directory is None or not (directory / "tokenizer.json").is_file():
        return None
    tokenizer = open_tokenizer(directory)

    def count(texts: Sequence[str]) -> list[int]:
        return [len(each.ids) for each in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    return count
