"""A household whose assistant shall answer in JSON, and a small language model that has only read its talk."""

import itertools
import json
import random
from pathlib import Path

from benchmarks.causal import make_causal
from pipelines.config import Config

DEVICES = ("lamp", "heater", "fan", "radio", "oven", "blind")
ROOMS = ("kitchen", "hall", "study", "bedroom", "garage")
STATES = ("on", "off")
PHRASES = ("turn the {d} in the {r} {s}", "please switch {s} the {r} {d}", "{r}: {d} {s}", "I want the {r} {d} {s} now")
SYSTEM = "Reply with JSON only."
SCHEMA = {
    "type": "object",
    "properties": {"device": {"enum": list(DEVICES)}, "room": {"enum": list(ROOMS)}, "state": {"enum": list(STATES)}},
    "required": ["device", "room", "state"],
    "additionalProperties": False,
}


def commands() -> list[tuple[str, dict]]:
    """All of them with their answers, in an order of its own that is always the same."""
    found = [
        (phrase.format(d=device, r=room, s=state), {"device": device, "room": room, "state": state})
        for phrase, device, room, state in itertools.product(PHRASES, DEVICES, ROOMS, STATES)
    ]
    random.Random(7).shuffle(found)
    return found


def chats() -> list[dict]:
    return [
        {
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": asked},
                {"role": "assistant", "content": written(answer)},
            ],
            "checks": {"json_schema": SCHEMA},
        }
        for asked, answer in commands()
    ]


def written(answer: dict, *, backwards: bool = False) -> str:
    return json.dumps(dict(reversed(answer.items())) if backwards else answer)


def preferences() -> list[dict]:
    """The device shall come last, which no chat has shown."""
    return [
        {
            "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}],
            "chosen": [{"role": "assistant", "content": written(answer, backwards=True)}],
            "rejected": [{"role": "assistant", "content": written(answer)}],
        }
        for asked, answer in commands()
    ]


def talk() -> list[str]:
    """What the small model has read: commands, and a person who answers in words."""
    return [f"{SYSTEM}\n\nUser: {asked}\n\nAssistant: Sure, here you are" for asked, _ in commands()]


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def small_model(directory: Path) -> Path:
    return make_causal(
        directory,
        [*talk(), *(written(answer) for _, answer in commands()[:3])],
        width=64,
        layers=2,
        vocabulary=500,
        window=256,
        steps=60,
        batch=8,
        block=64,
        rate=5e-3,
    )


SFT = {
    "base": "path:base",
    "method": "full",
    "epochs": 5,
    "learning_rate": 5e-3,
    "evaluations": 1,
    "max_tokens": 128,
    "answer_tokens": 60,
    "general": "general.txt",
    "forgetting": 1000.0,
}


def config_of(kind: str = "sft", **settings: object) -> Config:
    """Parameters of a training in the household; `settings`: of the section."""
    return Config.model_validate(
        {kind: {**SFT, **settings}, "generate": {"threads": 1, "concurrency": 20}, "embed": {"threads": 1}}
    )
