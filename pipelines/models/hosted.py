"""A language model that was fine-tuned at a server and stays there: `hosted.json` in a directory names it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import InputError
from pipelines.files import atomic_write

HOSTED = "hosted.json"


@dataclass(frozen=True)
class Hosted:
    """`model`: what the server calls it; the rest is where it came from, for people."""

    model: str
    base: str
    endpoint: str
    job: str
    files: list[str]  # ids of what was uploaded


def write_hosted(directory: Path, hosted: Hosted) -> None:
    atomic_write(directory / HOSTED, json.dumps(dataclasses.asdict(hosted), indent=1, sort_keys=True) + "\n")


def read_hosted(directory: Path) -> Hosted:
    """Raises `InputError` where the file does not say which model it is."""
    try:
        found = Hosted(**json.loads((directory / HOSTED).read_text("utf-8")))
    except (ValueError, TypeError):
        found = None
    if found is None or not isinstance(found.model, str) or not found.model:
        raise InputError(
            f"{directory / HOSTED} names no model", hint="fine-tune it again, or take its copy from MLflow"
        )
    return found
