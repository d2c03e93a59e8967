"""The model of `generate.model` with a memory: asked only what it has not written before."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Self

from pipelines.config import GenerateConfig
from pipelines.files import Workspace
from pipelines.generate.chat import Conversation, LanguageModel, cost
from pipelines.generate.kept import KeptAnswers
from pipelines.generate.load import load_generator
from pipelines.model import digest
from pipelines.models import resolve_generator
from pipelines.progress import Progress, Silent


class Writer:
    """Use as a context. The model is loaded when the first answer is missing; the numbers are of what was asked."""

    def __init__(self, config: GenerateConfig, workspace: Workspace, progress: Progress | None = None) -> None:
        self.model = resolve_generator(config, workspace)
        self.written = self.prompt_tokens = self.completion_tokens = 0
        self._config = config
        self._kept = KeptAnswers(workspace)
        self._progress = progress or Silent()
        self._open = ExitStack()
        self._loaded: LanguageModel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def cost(self) -> float:
        return cost(self._config, self.prompt_tokens, self.completion_tokens)

    def key(self, *parts: str) -> bytes:
        """32 bytes: what this model, with this temperature, is asked to write."""
        return digest("answer 1", self.model.revision, repr(self._config.temperature), *parts)

    def found(self, wanted: Mapping[bytes, object]) -> dict[bytes, str]:
        """What was written before; nothing is asked."""
        return self._kept.find(wanted)

    def write(self, wanted: Mapping[bytes, Conversation], max_tokens: int) -> dict[bytes, str]:
        """The answer for each key: the one that is kept, else a new one, which is kept before the next is waited for.

        Raises what the model raises; what it wrote until then is kept.
        """
        found = self.found(wanted)
        self._progress.advance(len(found))
        missing = {key: conversation for key, conversation in wanted.items() if key not in found}
        if missing:
            found |= dict(self._kept.keep(self._asked(missing, max_tokens)))
        return found

    def _asked(self, missing: Mapping[bytes, Conversation], max_tokens: int) -> Iterator[tuple[bytes, str]]:
        if self._loaded is None:
            self._loaded = self._open.enter_context(load_generator(self.model, self._config))
        answers = self._loaded.complete(missing.values(), max_tokens)
        for key, answer in zip(missing, answers, strict=True):
            self.written += 1
            self.prompt_tokens += answer.prompt_tokens
            self.completion_tokens += answer.completion_tokens
            self._progress.advance()
            yield key, answer.text
