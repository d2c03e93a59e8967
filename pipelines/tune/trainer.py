"""The training of a language model with TRL, read from top to bottom.

Chats (SFT): the loss is that of the answers alone, not of the prompts; of a long conversation every answer is learned.
Preferences: direct preference optimisation (Rafailov et al. 2023). LoRA: Hu et al. 2021, merged into the weights at the
end; QLoRA: Dettmers et al. 2023, whose result stays an adapter, because its base is rounded to four bits.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar as disable_progress_bars
from transformers import AutoTokenizer, EarlyStoppingCallback, PrinterCallback
from transformers.utils import logging
from trl import DPOConfig as DpoArguments  # type: ignore[attr-defined]
from trl import DPOTrainer, SFTTrainer  # type: ignore[attr-defined]
from trl import SFTConfig as SftArguments  # type: ignore[attr-defined]

from pipelines.config import BehaviourConfig, DpoConfig
from pipelines.errors import ConfigError, InputError
from pipelines.examples import Chat, Example, Messages, Preference
from pipelines.examples.rows import plain
from pipelines.finetune.checkpoints import last_whole
from pipelines.finetune.log import Log
from pipelines.finetune.teller import Teller
from pipelines.generate.local import open_weights
from pipelines.models import Generator
from pipelines.models.chat import PLAIN_TEMPLATE
from pipelines.progress import Progress

LOGGED = 50  # times that the loss is logged
METRIC = "eval_loss"
TOLD = {
    **{name: name for name in ("loss", "learning_rate", "grad_norm")},
    "mean_token_accuracy": "token_accuracy",
    "rewards/accuracies": "preferred",
    "rewards/margins": "margin",
    METRIC: "held_out/loss",
    "eval_rewards/accuracies": "held_out/preferred",
}


@dataclass(frozen=True)
class Trained:
    """The model lies in `directory`; `history`: loss on the held-out examples by step; `left_out`: too long ones."""

    directory: Path
    examples: int
    left_out: int
    steps: int
    best_step: int
    history: dict[str, dict[str, float]]
    seconds: float


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
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    disable_progress_bars()
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)  # of what LoRA begins with
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about each other
        assert base.tokenizer is not None
        tokenizer = open_tokenizer(base.tokenizer)
        rows, left_out = _rows(examples, tokenizer, settings)
        judged, _ = _rows(held_out, tokenizer, settings)
        if not rows:
            raise InputError(
                f"every example has more than {settings.max_tokens} tokens", hint="raise max_tokens of this section"
            )
        kind: Any = DPOTrainer if isinstance(settings, DpoConfig) else SFTTrainer
        trainer = kind(
            model=_open(base, settings),
            args=_arguments(settings, place, -(-len(rows) // settings.batch), evaluated=bool(judged)),
            train_dataset=rows,
            eval_dataset=judged if judged else None,
            processing_class=tokenizer,
            peft_config=None if settings.method == "full" else _lora(settings),
            callbacks=[
                Teller(log, progress, TOLD),
                *([EarlyStoppingCallback(settings.patience)] if judged else []),
            ],
        )
        trainer.remove_callback(PrinterCallback)  # on stdout
        checkpoint = last_whole(place)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        made = place / "model"
        model = trainer.model
        if settings.method == "lora":
            model = model.merge_and_unload()
        model.save_pretrained(str(made))
        tokenizer.save_pretrained(str(made))
    state = trainer.state
    history = {str(each["step"]): {"loss": each[METRIC]} for each in state.log_history if METRIC in each}
    best = state.best_global_step if judged and state.best_global_step else state.global_step
    return Trained(made, len(rows), left_out, state.global_step, best, history, time.perf_counter() - began)


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
    dtype = torch.bfloat16 if _half() else torch.float32
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
        bnb_4bit_compute_dtype=torch.bfloat16 if _half() else torch.float32,
    )


def _half() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def _lora(settings: BehaviourConfig) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        lora_dropout=0.05,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _arguments(settings: BehaviourConfig, place: Path, steps: int, *, evaluated: bool) -> Any:
    every = max(1, steps // settings.evaluations)
    more: dict[str, Any] = {"beta": settings.beta} if isinstance(settings, DpoConfig) else {}
    kind: Any = DpoArguments if isinstance(settings, DpoConfig) else SftArguments
    return kind(
        output_dir=str(place),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=_half(),
        gradient_checkpointing=torch.cuda.is_available(),
        max_length=settings.max_tokens,
        eval_strategy="steps" if evaluated else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=evaluated,
        metric_for_best_model=METRIC if evaluated else None,
        greater_is_better=False if evaluated else None,
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(1, steps * settings.epochs // LOGGED),
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=False,
        **more,
    )


def _rows(examples: Sequence[Example], tokenizer: Any, settings: BehaviourConfig) -> tuple[Dataset, int]:
    """As TRL takes them, without those that the model would not read to their end; and how many these were."""
    rows, left_out = [], 0
    for example in examples:
        for prompt, answers in _answers(example):
            whole = [[*plain(prompt), {"role": "assistant", "content": text}] for text in answers.values()]
            if max(len(tokenizer.apply_chat_template(each, return_dict=False)) for each in whole) > settings.max_tokens:
                left_out += 1
                continue
            said = {key: [{"role": "assistant", "content": text}] for key, text in answers.items()}
            rows.append({"prompt": plain(prompt), **said})
    return Dataset.from_list(rows), left_out


def _answers(example: Example) -> Iterator[tuple[Messages, dict[str, str]]]:
    """What the model has before it, and what it learns to say: of a chat, every answer in it."""
    if isinstance(example, Preference):
        yield example.prompt, {"chosen": example.chosen, "rejected": example.rejected}
        return
    assert isinstance(example, Chat)
    for place, message in enumerate(example.messages):
        if message.role == "assistant":
            yield example.messages[:place], {"completion": message.content}
