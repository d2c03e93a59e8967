"""What happens between two steps of a trainer: progress, curves, and the mark of a whole checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from pipelines.failpoints import failpoint
from pipelines.finetune.checkpoints import mark_whole
from pipelines.finetune.log import Log
from pipelines.progress import Progress


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
