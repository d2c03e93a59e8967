"""The training of a language model with TRL, read from top to bottom.

Chats (SFT): the loss is that of the answers alone, not of the prompts; of a long conversation every answer is learned.
Preferences: direct preference optimisation (Rafailov et al. 2023). LoRA: Hu et al. 2021, merged into the weights at the
end; QLoRA: Dettmers et al. 2023, whose result stays an adapter, because its base is rounded to four bits.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar as disable_progress_bars
from transformers import AutoTokenizer
from trl import DPOConfig as DpoArguments  # type: ignore[attr-defined]
from trl import DPOTrainer, SFTTrainer  # type: ignore[attr-defined]
from trl import SFTConfig as SftArguments  # type: ignore[attr-defined]

from pipelines.config import BehaviourConfig, DpoConfig
from pipelines.errors import ConfigError, InputError
from pipelines.examples import Chat, Example, Messages, Preference
from pipelines.examples.rows import plain
from pipelines.finetune import loop
from pipelines.finetune.facts import Trained
from pipelines.finetune.log import Log
from pipelines.generate.local import open_weights
from pipelines.models import Generator
from pipelines.models.chat import PLAIN_TEMPLATE
from pipelines.progress import Progress

METRIC = "eval_loss"
TOLD = {
    **loop.TOLD,
    "mean_token_accuracy": "token_accuracy",
    "rewards/accuracies": "preferred",
    "rewards/margins": "margin",
    METRIC: "held_out/loss",
    "eval_rewards/accuracies": "held_out/preferred",
}


def train(
    base: Generator,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    settings: BehaviourConfig,
    threads: int,
    place: Path,
    log: Log,
    progress: Progress,
) -> Trained:
    """Train from `base`, or go on from the last whole checkpoint in `place`. threads: 0 for what PyTorch chooses."""
    began = time.perf_counter()
    loop.set_up(settings, threads)
    disable_progress_bars()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about each other
        assert base.tokenizer is not None
        tokenizer = open_tokenizer(base.tokenizer)
        rows, judged = (_rows(each, tokenizer, settings) for each in (examples, held_out))
        if not rows:
            raise InputError(
                f"every example has more than {settings.max_tokens} tokens", hint="raise max_tokens of this section"
            )
        metric = METRIC if judged else None
        kind: Any = DPOTrainer if isinstance(settings, DpoConfig) else SFTTrainer
        trainer = kind(
            model=_open(base, settings),
            args=_arguments(settings, place, len(rows), metric),
            train_dataset=rows,
            eval_dataset=judged if judged else None,
            processing_class=tokenizer,
            peft_config=None if settings.method == "full" else _lora(settings),
            callbacks=loop.callbacks(settings, loop.Teller(log, progress, TOLD), metric),
        )
        loop.go_on(trainer, place)
        made = place / "model"
        model = trainer.model
        if settings.method == "lora":
            model = model.merge_and_unload()
        model.save_pretrained(str(made))
        tokenizer.save_pretrained(str(made))
    return loop.ended(trainer, made, len(rows), metric, began)


def open_tokenizer(directory: Path) -> Any:
    """The tokenizer, with a chat template; a model that has none learns the plain one."""
    tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    if tokenizer.eos_token is None:
        raise InputError(
            f"the tokenizer in {directory} has no token that ends an answer", hint="set eos_token in its configuration"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def _open(base: Generator, settings: BehaviourConfig) -> Any:
    dtype = torch.bfloat16 if loop.has_bfloat16() else torch.float32
    if settings.method != "qlora":
        return open_weights(base, dtype).requires_grad_(True)  # merging an adapter has frozen them
    if base.adapter is not None:
        raise ConfigError(f"{base.name} is an adapter, which qlora cannot begin with", hint="set method to lora")
    return open_weights(base, dtype, quantization_config=_four_bits())


def _four_bits() -> Any:
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError("qlora needs bitsandbytes", hint="pip install bitsandbytes, or set method to lora") from error
    if not torch.cuda.is_available():
        raise ConfigError("qlora needs a CUDA GPU", hint="set method to lora")
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if loop.has_bfloat16() else torch.float32,
    )


def _lora(settings: BehaviourConfig) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        lora_dropout=0.05,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _arguments(settings: BehaviourConfig, place: Path, rows: int, metric: str | None) -> Any:
    shared = {
        **loop.arguments(settings, place, rows, metric, most=False),
        "per_device_eval_batch_size": settings.batch,
        "gradient_checkpointing": torch.cuda.is_available(),
        "max_length": settings.max_tokens,
    }
    return DpoArguments(**shared, beta=settings.beta) if isinstance(settings, DpoConfig) else SftArguments(**shared)


def _rows(examples: Sequence[Example], tokenizer: Any, settings: BehaviourConfig) -> Dataset:
    """As TRL takes them, without those that the model would not read to their end: the checker has named these."""
    rows = []
    for example in examples:
        for prompt, answers in _answers(example):
            whole = [[*plain(prompt), {"role": "assistant", "content": text}] for text in answers.values()]
            if max(len(tokenizer.apply_chat_template(each, return_dict=False)) for each in whole) > settings.max_tokens:
                continue
            said = {key: [{"role": "assistant", "content": text}] for key, text in answers.items()}
            rows.append({"prompt": plain(prompt), **said})
    return Dataset.from_list(rows)


def _answers(example: Example) -> Iterator[tuple[Messages, dict[str, str]]]:
    """What the model has before it, and what it learns to say: of a chat, every answer in it."""
    if isinstance(example, Preference):
        yield example.prompt, {"chosen": example.chosen, "rejected": example.rejected}
        return
    assert isinstance(example, Chat)
    for place, message in enumerate(example.messages):
        if message.role == "assistant":
            yield example.messages[:place], {"completion": message.content}
