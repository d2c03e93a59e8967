"""When two prompts or two answers are the same: as `normalised` has it, whatever is between the words."""

from dataclasses import dataclass
from functools import lru_cache

from pipelines.examples.rows import Chat, Example
from pipelines.generate import Message
from pipelines.pairs.text import normalised

_often = lru_cache(maxsize=256)(normalised)  # the same system prompt stands in most rows


@dataclass(frozen=True, slots=True)
class Said:
    """What an example says, normalised. `prompt`: all of it, with who speaks; `user`: what the user says, turn by turn.

    `answers` are as they were written, except for white space: a behaviour can be the case of letters.
    """

    prompt: str
    user: tuple[str, ...]
    answers: tuple[str, ...]

    @property
    def row(self) -> int:
        """The same for the same row, for as long as this process lives."""
        return hash((self.prompt, self.answers))


def said(example: Example) -> Said:
    spoken = [(each.role, _normal(each)) for each in example.prompt]
    answers = (example.answer,) if isinstance(example, Chat) else (example.chosen, example.rejected)
    return Said(
        prompt="\n".join(f"{role}: {text}" for role, text in spoken),
        user=tuple(text for role, text in spoken if role == "user"),
        answers=tuple(" ".join(text.split()) for text in answers),
    )


def _normal(message: Message) -> str:
    return _often(message.content) if message.role == "system" else normalised(message.content)
