"""A language model of a few layers that reads: it copies a code from a source, or from the question, and knows some.

It is taught here in seconds. It knows the codes of half of the names by heart; of the others it was told another one
each time, so that alone it guesses.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path

from benchmarks.causal import make_causal, teach
from pipelines.compare.prompts import after_sources, asked
from pipelines.generate.local import plain
from pipelines.index import Hit
from tests.compare.world import CODES, NAMES, WORDS, question, written_down

INSTRUCTIONS = "Answer."
KNOWN = NAMES[::2]
ROWS = 3000

Form = Callable[[str], str]


def terse(code: str) -> str:
    return code


def formed(code: str) -> str:
    return json.dumps({"code": code})


def lessons(form: Form, seed: int) -> list[tuple[str, str]]:
    """Prompts and answers: from a source, from the question, and from memory. Codes in sources are any."""
    chance = random.Random(seed)
    found = []
    for number in range(ROWS):
        name, code = chance.choice(NAMES), chance.choice(WORDS)
        if number % 3 == 0:
            conversation = after_sources(INSTRUCTIONS, [source(name, code)], question(name))
        elif number % 3 == 1:
            conversation = asked(INSTRUCTIONS, written_down(name, code))
            if chance.random() < 0.5:
                conversation = after_sources(INSTRUCTIONS, [source(name, code)], written_down(name, code))
        else:
            conversation = asked(INSTRUCTIONS, question(name))
            code = CODES[name] if name in KNOWN else code
        found.append((plain(conversation), f" {form(code)}"))
    return found


def source(name: str, code: str) -> Hit:
    text = f"The code of {name} is {code}."
    return Hit(1, 1.0, f"{name}.md", "", "", "", text, [], None, 0, len(text), (0, 0), [], [], {})


def taught(directory: Path, form: Form, *, steps: int, base: Path | None = None) -> Path:
    """A model in `directory` that answers in this form; from `base`, that model fine-tuned."""
    rows = lessons(form, 3)
    if base is not None:
        return teach(directory, base, rows, steps=steps)
    both = [prompt + answer for words in (rows, lessons(formed, 3)) for prompt, answer in words[:600]]
    base = make_causal(directory, both, width=64, layers=2, vocabulary=700, window=256, steps=1, batch=1, block=8)
    return teach(directory, base, rows, steps=steps, spread=0.1)
