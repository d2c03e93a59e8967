"""A language model of a few layers that reads: it copies a code from a source, or from the question, and knows some.

It is taught here in seconds. Weights begin larger than usual, because with those a model of this size learns to copy
in a hundred steps; with the usual ones it does not in thousands. It knows the codes of half of the names by heart; of
the others it was told another one each time, so that alone it guesses.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.causal import make_causal
from pipelines.compare.prompts import after_sources, asked
from pipelines.generate.local import plain
from pipelines.index import Hit
from tests.compare.world import CODES, NAMES, WORDS, question, written_down

INSTRUCTIONS = "Answer."
KNOWN = NAMES[::2]
ROWS = 3000
SPREAD = 0.1  # of the first weights
BATCH = 16
RATE = 2e-3

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


def teach(directory: Path, form: Form, *, steps: int, base: Path | None = None) -> Path:
    """A model in `directory` that answers in this form; from `base`, that model fine-tuned."""
    rows = lessons(form, 3)
    if base is None:
        both = [prompt + answer for words in (rows, lessons(formed, 3)) for prompt, answer in words[:600]]
        base = make_causal(directory, both, width=64, layers=2, vocabulary=700, window=256, steps=1, batch=1, block=8)
    model = AutoModelForCausalLM.from_pretrained(str(base))
    tokenizer = AutoTokenizer.from_pretrained(str(base))
    if base == directory:
        torch.manual_seed(0)
        for weights in model.parameters():
            if weights.dim() == 2:
                torch.nn.init.normal_(weights, std=SPREAD)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps, pct_start=0.1)
    for ids, mask, labels in batches(tokenizer, rows, steps):
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def batches(
    tokenizer: AutoTokenizer, rows: list[tuple[str, str]], steps: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Token ids, padded on the left, their mask, and labels, which only answers have."""
    chance = random.Random(5)
    for _ in range(steps):
        pairs = [
            (tokenizer(prompt)["input_ids"], [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id])
            for prompt, answer in chance.sample(rows, BATCH)
        ]
        longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
        before = [longest - len(prompt) - len(answer) for prompt, answer in pairs]
        filled = list(zip(before, pairs, strict=True))
        yield (
            torch.tensor([[tokenizer.pad_token_id] * empty + prompt + answer for empty, (prompt, answer) in filled]),
            torch.tensor([[0] * empty + [1] * (longest - empty) for empty, _ in filled]),
            torch.tensor([[-100] * (empty + len(prompt)) + answer for empty, (prompt, answer) in filled]),
        )
