"""What is said to a language model, and what it answers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from pipelines.config import GenerateConfig


@dataclass(frozen=True, slots=True)
class Message:
    """`role`: system, user or assistant; tool where a model knows it."""

    role: str
    content: str


Conversation = Sequence[Message]


@dataclass(frozen=True)
class Completion:
    """An answer. `finish`: `stop` where the model ended it, `length` where `max_tokens` did, or what a server says.

    `seconds`: of a request, or of its batch; tokens are 0 where a server does not count them.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    finish: str


class LanguageModel(Protocol):
    """Use as a context: `with load_generator(...) as model`. `max_tokens`, where given, goes before the parameter."""

    def complete(self, conversations: Iterable[Conversation], max_tokens: int | None = None) -> Iterator[Completion]:
        """An answer to each conversation, in their order, as soon as it is there; no more than a few are read ahead.

        Raises `InputError` for a conversation that the model refuses, `ServiceUnavailable` while a server is away.
        """

    def stream(self, conversation: Conversation, max_tokens: int | None = None) -> Iterator[str]:
        """Pieces of the answer to one conversation, as they are written. Raises what `complete` raises."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def cost(config: GenerateConfig, prompt_tokens: int, completion_tokens: int) -> float:
    """In the currency of the prices in `generate`."""
    return (
        prompt_tokens * config.price_per_million_prompt_tokens
        + completion_tokens * config.price_per_million_completion_tokens
    ) / 1e6
