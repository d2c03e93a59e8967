"""Language models from a directory, through transformers: greedy, in batches, the same text in any batch.

A conversation becomes a text by the chat template of the tokenizer. Where there is none, it is written down plainly,

    SYSTEM

    User: QUESTION

    Assistant:

and the model goes on from there. Batches are padded on the left and padding is masked, so that what one conversation is
answered depends on its neighbours by rounding alone.
"""

import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Self

import torch
from jinja2 import TemplateError

from pipelines.config import GenerateConfig
from pipelines.errors import ConfigError, InputError, ServiceUnavailable
from pipelines.generate.chat import Completion, Conversation, Message
from pipelines.model import batched
from pipelines.models import Generator
from pipelines.models.threads import let_idle_threads_sleep


class LocalModel:
    """The weights in memory; `concurrency` conversations are a batch. Threads take turns at them, batch by batch."""

    def __init__(self, model: Generator, config: GenerateConfig) -> None:
        let_idle_threads_sleep()
        if config.threads:
            torch.set_num_threads(config.threads)
        self._config = config
        self._name, self.window = model.name, model.window
        self._alone, self._closed = threading.Lock(), False
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._tokenizer, self.weights = _loaded(model, self.device)
        except ConfigError:
            raise
        except Exception as error:  # whatever a library says about files that it cannot use
            raise InputError(
                f"{model.name} cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
                hint="choose a model that AutoModelForCausalLM loads without code of its own",
            ) from error
        self._control = _control_tokens(self._tokenizer)
        self._ends = _end_tokens(self.weights, self._tokenizer)
        self._pad = self.end
        self.weights.generation_config = self._decoding()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What is being written ends with its next token."""
        self._closed = True
        if self._alone.acquire(timeout=self._config.timeout_seconds):
            self.weights = None
            self._alone.release()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The weights for this thread alone. Raises `ServiceUnavailable` where others have them for
        `timeout_seconds`, and when the model was closed, because what was cut short is no answer."""
        seconds = self._config.timeout_seconds
        if not self._alone.acquire(timeout=seconds):
            raise ServiceUnavailable(f"{self._name} was busy with other questions for {seconds:g} s", hint="try again")
        try:
            self._check_open()
            yield
            self._check_open()
        finally:
            self._alone.release()

    def _check_open(self) -> None:
        if self._closed:
            raise ServiceUnavailable(
                f"{self._name} is being closed", hint="ask again when this program was started again"
            )

    def complete(self, conversations: Iterable[Conversation], max_tokens: int | None = None) -> Iterator[Completion]:
        limit = max_tokens or self._config.max_tokens
        for batch in batched(conversations, self._config.concurrency):
            began = time.perf_counter()
            prompts = [self._prompt(conversation, limit) for conversation in batch]
            answers = self._generate(prompts, limit)[:, max(map(len, prompts)) :].tolist()
            seconds = time.perf_counter() - began
            for prompt, answer in zip(prompts, answers, strict=True):
                written = self._until_end(answer)
                text = self._tokenizer.decode(written, skip_special_tokens=True).strip()
                finish = "stop" if len(written) < len(answer) else "length"
                yield Completion(text, len(prompt), len(written), seconds, finish)

    def stream(self, conversation: Conversation, max_tokens: int | None = None) -> Iterator[str]:
        from transformers import TextIteratorStreamer

        limit = max_tokens or self._config.max_tokens
        prompt = self._prompt(conversation, limit)
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        unwanted = threading.Event()

        def write() -> None:
            try:
                self._generate([prompt], limit, unwanted, streamer=streamer)
            finally:
                streamer.end()  # type: ignore[no-untyped-call] # else the reader would wait for ever

        pool = ThreadPoolExecutor(1, thread_name_prefix="generate")  # so that no reader's pause holds the weights
        writing = pool.submit(write)
        try:
            yield from filter(None, streamer)
            writing.result()
        finally:
            unwanted.set()
            pool.shutdown(wait=False)

    @property
    def end(self) -> int:
        """The token that ends a text."""
        return min(self._ends, default=0)

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """The tokens of a conversation, up to where the answer begins."""
        conversation = self._harmless(conversation)
        if self._tokenizer.chat_template:
            return list(self._tokenizer(self._templated(conversation), add_special_tokens=False)["input_ids"])
        return list(self._tokenizer(plain(conversation))["input_ids"])

    def text_ids(self, text: str) -> list[int]:
        """The tokens of a text, and nothing around them."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def answered_ids(self, conversation: Conversation, answer: str) -> list[int]:
        """The tokens of a conversation with an answer, and what ends it."""
        conversation = self._harmless(conversation)
        if self._tokenizer.chat_template:
            whole = self._templated([*conversation, Message("assistant", answer)], answered=True)
            return list(self._tokenizer(whole, add_special_tokens=False)["input_ids"])
        return [*self._tokenizer(f"{plain(conversation)} {answer}")["input_ids"], self.end]

    def _prompt(self, conversation: Conversation, limit: int) -> list[int]:
        """Token ids. Raises `InputError` where the model could not read them and write `limit` more."""
        ids = self.prompt_ids(conversation)
        if len(ids) + limit > self.window:
            raise InputError(
                f"a conversation has {len(ids):,} tokens, its answer may have {limit:,}, and {self._name} holds"
                f" {self.window:,}",
                hint="lower generate.max_tokens, or choose a model with a larger window",
            )
        return ids

    def _harmless(self, conversation: Conversation) -> list[Message]:
        """The same, where no text holds a control token of the model: only its template may begin or end a turn."""
        return [
            replace(message, content=self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", message.content))
            for message in conversation
        ]

    def _templated(self, conversation: Conversation, *, answered: bool = False) -> str:
        def text(messages: Sequence[Message]) -> str:
            rows = [asdict(message) for message in messages]
            return str(self._tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=not answered))

        try:
            return text(conversation)
        except TemplateError:  # many templates have no place for a system message
            return text(_without_system(conversation))

    def _generate(
        self, prompts: Sequence[list[int]], limit: int, unwanted: threading.Event | None = None, **more: Any
    ) -> torch.Tensor:
        """[n, longest prompt + answer], padded on both sides; shorter where the answer became `unwanted`."""
        from transformers import StoppingCriteriaList

        def enough(ids: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
            ends = self._closed or (unwanted is not None and unwanted.is_set())
            return torch.full((len(ids),), ends, device=ids.device)

        length = max(map(len, prompts))
        ids = torch.tensor([[self._pad] * (length - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with self.turn(), torch.inference_mode():
            found: torch.Tensor = self.weights.generate(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
                max_new_tokens=limit,
                stopping_criteria=StoppingCriteriaList([enough]),
                **more,
            )
        return found

    def _until_end(self, answer: list[int]) -> list[int]:
        return answer[: next((place for place, token in enumerate(answer) if token in self._ends), len(answer))]

    def _decoding(self) -> Any:
        """How tokens are chosen. What the model's own configuration says about that does not hold."""
        from transformers import GenerationConfig  # importing it takes seconds

        sampled = {"temperature": self._config.temperature, "top_k": 0} if self._config.temperature else {}
        return GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=bool(sampled), pad_token_id=self._pad, eos_token_id=sorted(self._ends) or None, **sampled
        )


def plain(conversation: Conversation) -> str:
    """A conversation as a text for a model without a chat template."""
    parts = [
        message.content if message.role == "system" else f"{message.role.title()}: {message.content}"
        for message in conversation
    ]
    return "\n\n".join([*parts, "Assistant:"])


def _without_system(conversation: Conversation) -> list[Message]:
    """The same with what the system says at the beginning of what the user says first."""
    said = "\n\n".join(message.content for message in conversation if message.role == "system")
    rest = [message for message in conversation if message.role != "system"]
    if not said or not rest:
        return rest
    return [Message(rest[0].role, f"{said}\n\n{rest[0].content}"), *rest[1:]]


def _loaded(model: Generator, device: str) -> tuple[Any, Any]:
    """Tokenizer and weights, with an adapter merged into them."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = AutoTokenizer.from_pretrained(str(model.tokenizer), local_files_only=True, trust_remote_code=False)
    whole = open_weights(model, torch.bfloat16 if device == "cuda" else torch.float32)
    return tokenizer, whole.to(device).eval()


def open_weights(model: Generator, dtype: torch.dtype, **more: Any) -> Any:
    """The model of transformers, an adapter merged into its base. Raises `ConfigError` for one without PEFT."""
    from transformers import AutoModelForCausalLM

    kept = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    whole: Any = AutoModelForCausalLM.from_pretrained(str(model.directory), dtype=dtype, **kept, **more)
    if model.adapter is None:
        return whole
    try:
        from peft import PeftModel
    except ImportError:
        raise ConfigError(
            f"{model.name} is an adapter, and PEFT is not installed", hint="pip install 'snapdex[train]'"
        ) from None
    return PeftModel.from_pretrained(whole, str(model.adapter)).merge_and_unload()


def _control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """What the tokenizer reads as one token wherever it stands in a text."""
    names = {str(name) for name in [*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()]}
    return re.compile(
        "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if len(name) > 1) or r"(?!)"
    )


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """What ends an answer: what the model's configuration names, and the end token of the tokenizer."""
    named = model.generation_config.eos_token_id
    ends = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id}
    return {int(token) for token in ends if token is not None}
