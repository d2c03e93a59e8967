"""What a fine-tuned model was made of, beside its weights in `training.json`."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import InputError
from pipelines.files import atomic_write

FILE = "training.json"


@dataclass(frozen=True)
class Facts:
    """`history`: metrics on the held-out pairs by step; `best_step`: the step whose weights these are."""

    name: str
    fingerprint: str
    base: str
    base_revision: str
    parameters: dict[str, Any]
    pairs: int
    steps: int
    best_step: int
    history: dict[str, dict[str, float]]
    seconds: float


@dataclass(frozen=True)
class Trained:
    """The model lies in `directory`; `learned`: rows; `history`: metrics on what was held out by step."""

    directory: Path
    learned: int
    steps: int
    best_step: int
    history: dict[str, dict[str, float]]
    seconds: float


def write_facts(directory: Path, facts: Facts) -> None:
    atomic_write(directory / FILE, json.dumps(dataclasses.asdict(facts), indent=1, sort_keys=True) + "\n")


def read_facts(directory: Path) -> Facts | None:
    """None where there is no model. Raises `InputError` where it is none that was fine-tuned here."""
    try:
        raw = json.loads((directory / FILE).read_text("utf-8"))
        return Facts(**raw)
    except FileNotFoundError:
        if directory.exists():
            raise _foreign(directory) from None
        return None
    except (ValueError, TypeError):
        raise _foreign(directory) from None


def _foreign(directory: Path) -> InputError:
    return InputError(f"{directory} is no model that was fine-tuned here", hint="move it away, or choose another name")
