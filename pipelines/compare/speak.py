"""A model that answers the questions in one way or another, and what that took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipelines.ask.passages import REFUSAL, within
from pipelines.compare.answers import Answered, Retrieved, System, spread
from pipelines.compare.prompts import after_examples, after_sources, asked
from pipelines.compare.questions import Question, worth
from pipelines.compare.retrieve import Found, is_relevant
from pipelines.config import Config
from pipelines.examples import Chat
from pipelines.generate import Completion, Conversation, LanguageModel, counters
from pipelines.models import Generator
from pipelines.progress import Progress

TIMED = 50  # questions that a model which runs here answers alone, for its latency


@dataclass(frozen=True)
class Prompt:
    """What a question becomes. `retrieved`: what search had to do with it."""

    question: Question
    conversation: Conversation
    retrieved: Retrieved | None = None


class Speaker:
    """A loaded model. Prompts are cut so that it can read them and write `generate.max_tokens` more."""

    def __init__(self, model: Generator, loaded: LanguageModel, config: Config, instructions: str) -> None:
        self._model, self._loaded, self._config = model, loaded, config
        self._instructions = instructions
        self._room = model.window - config.generate.max_tokens if model.window else 0
        self._count, self._length = counters(loaded)

    def alone(self, name: str, questions: Sequence[Question], progress: Progress) -> System:
        """Without help; with its confidence, where the model tells."""
        prompts = [Prompt(each, asked(self._instructions, each.text)) for each in questions]
        return self._system(name, prompts, progress, confident=True)

    def after_examples(
        self, name: str, questions: Sequence[Question], shots: Mapping[str, Sequence[Chat]], progress: Progress
    ) -> System:
        """`shots`: by question, the best last; of more than the model can read, the first are left out."""
        prompts = []
        for question in questions:
            shown = list(shots[question.id])
            while shown and self._is_too_long(after_examples(self._instructions, shown, question.text)):
                shown.pop(0)
            prompts.append(Prompt(question, after_examples(self._instructions, shown, question.text)))
        return self._system(name, prompts, progress)

    def with_sources(
        self, name: str, questions: Sequence[Question], found: Mapping[str, Found], progress: Progress
    ) -> System:
        """Where search abstains, so does the system, and the model is not asked."""
        prompts = [self._sourced(question, found[question.id]) for question in questions]
        return self._system(name, prompts, progress)

    def _sourced(self, question: Question, found: Found) -> Prompt:
        tokens = self._config.compare.context_tokens
        if self._room:
            tokens = min(tokens, self._room - self._length(after_sources(self._instructions, [], question.text)))
        hits = [] if found.abstained else within(found.hits, tokens, self._count)
        return Prompt(
            question,
            after_sources(self._instructions, hits, question.text),
            Retrieved(
                is_relevant(found.hits, question),
                is_relevant(hits, question),
                found.abstained,
                tuple(dict.fromkeys(hit.document for hit in found.hits)),
                found.seconds,
            ),
        )

    def _system(self, name: str, prompts: Sequence[Prompt], progress: Progress, *, confident: bool = False) -> System:
        progress.start(name, len(prompts))
        written = self._loaded.complete(prompt.conversation for prompt in prompts if _is_asked(prompt))
        timed = spread([prompt.question for prompt in prompts], TIMED)
        answers = []
        for prompt in prompts:
            said = next(written) if _is_asked(prompt) else Completion(REFUSAL, 0, 0, 0.0, "stop")
            answers.append(self._answered(prompt, said, confident))
            progress.advance()
        if self._model.kind == "folder":  # a batch says nothing about the time of one answer
            answers = [
                self._timed(prompt, each) if prompt.question.id in timed else each
                for prompt, each in zip(prompts, answers, strict=True)
            ]
        return System(name, self._model.name, answers)

    def _answered(self, prompt: Prompt, said: Completion, confident: bool) -> Answered:
        question = prompt.question
        found = worth(question, said.text, self._config.compare.metric, cut_off=said.finish == "length")
        searched = prompt.retrieved.seconds if prompt.retrieved else 0.0
        seconds = None if self._model.kind == "folder" else searched + said.seconds
        confidence = self._confidence(prompt.conversation, said.text) if confident else None
        tokens = said.prompt_tokens, said.completion_tokens
        return Answered(question, said.text, found, *tokens, seconds, prompt.retrieved, confidence)

    def _timed(self, prompt: Prompt, answered: Answered) -> Answered:
        searched = prompt.retrieved.seconds if prompt.retrieved else 0.0
        alone = next(iter(self._loaded.complete([prompt.conversation]))).seconds if _is_asked(prompt) else 0.0
        return replace(answered, seconds=searched + alone)

    def _confidence(self, conversation: Conversation, text: str) -> float | None:
        if self._model.kind != "folder":
            return None
        from pipelines.generate.likelihood import answer_likelihood
        from pipelines.generate.local import LocalModel

        assert isinstance(self._loaded, LocalModel)
        return answer_likelihood(self._loaded, conversation, text)

    def _is_too_long(self, conversation: Conversation) -> bool:
        return bool(self._room) and self._length(conversation) > self._room


def _is_asked(prompt: Prompt) -> bool:
    return prompt.retrieved is None or not prompt.retrieved.abstained
