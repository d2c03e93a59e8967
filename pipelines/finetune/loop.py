"""What every training has in common, whatever is trained: how it is set up, goes on, is told about, and ends."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback
from transformers.utils import logging

from pipelines.config import BehaviourConfig, FinetuneConfig
from pipelines.failpoints import failpoint
from pipelines.finetune.checkpoints import last_whole, mark_whole
from pipelines.finetune.facts import Trained
from pipelines.finetune.log import Log
from pipelines.progress import Progress

LOGGED = 50  # times that the loss is logged
TOLD = {name: name for name in ("loss", "learning_rate", "grad_norm")}

Settings = FinetuneConfig | BehaviourConfig


def set_up(settings: Settings, threads: int) -> None:
    """To be called before anything is loaded. threads: 0 for what PyTorch chooses."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)  # of what LoRA begins with


def has_bfloat16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def arguments(settings: Settings, place: Path, rows: int, metric: str | None, *, most: bool) -> dict[str, Any]:
    """Those of a trainer. metric: what the best checkpoint has `most` of, or least; None where nothing is held out."""
    steps = -(-rows // settings.batch)  # of an epoch
    every = max(1, steps // settings.evaluations)
    return {
        "output_dir": str(place),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "bf16": has_bfloat16(),
        "eval_strategy": "steps" if metric else "no",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
        "load_best_model_at_end": bool(metric),
        "metric_for_best_model": metric,
        "greater_is_better": most if metric else None,
        "restore_callback_states_from_checkpoint": True,
        "logging_steps": max(1, steps * settings.epochs // LOGGED),
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": False,
    }


def callbacks(settings: Settings, teller: "Teller", metric: str | None) -> list[TrainerCallback]:
    return [teller, *([EarlyStoppingCallback(settings.patience)] if metric else [])]


def go_on(trainer: Any, place: Path) -> None:
    """Train from the last whole checkpoint in `place`, or from the beginning."""
    trainer.remove_callback(PrinterCallback)  # on stdout
    checkpoint = last_whole(place)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def ended(trainer: Any, directory: Path, learned: int, metric: str | None, began: float) -> Trained:
    """What became of a training. began: by `time.perf_counter()`."""
    state = trainer.state
    shown = metric.removeprefix("eval_").removeprefix("held_out_cosine_") if metric else ""
    history = {str(each["step"]): {shown: each[metric]} for each in state.log_history if metric in each}
    best = state.best_global_step if metric and state.best_global_step else state.global_step
    return Trained(directory, learned, state.global_step, best, history, time.perf_counter() - began)


class Teller(TrainerCallback):
    """`told`: from the trainer's names of what goes to the log to ours."""

    def __init__(self, log: Log, progress: Progress, told: Mapping[str, str]) -> None:
        self._log, self._progress, self._told = log, progress, told

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._progress.start("finetune", state.max_steps)
        self._progress.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        failpoint("finetune.step")
        self._progress.advance()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **rest: Any) -> None:
        values = {self._told[name]: value for name, value in (logs or {}).items() if name in self._told}
        if values:
            self._log.metrics(values, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        failpoint("finetune.checkpoint")
        mark_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        failpoint("finetune.checkpointed")
