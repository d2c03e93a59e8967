"""Events of `pipelines/logs.py` in the log of a run, where Prefect keeps and shows them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger, runtime
from prefect.context import FlowRunContext

from pipelines import logs
from pipelines.config import Config


def stage_finished(stage: str, arguments: Sequence[object], result: object, seconds: float) -> None:
    """A task has done its work; its version is known where the result names one."""
    config = arguments[0] if arguments and isinstance(arguments[0], Config) else None
    facts = result if isinstance(result, dict) else {name: getattr(result, name, None) for name in logs.IDS}
    logs.event(
        "stage.finished",
        log=get_run_logger(),
        index=config.index.name if config else None,
        version=facts.get("version") if isinstance(facts.get("version"), int) else None,
        snapshot=facts.get("snapshot"),
        prefect_run=runtime.flow_run.id,
        stage=stage,
        seconds=round(seconds, 3),
    )


def run_finished(config: Config, **facts: Any) -> None:
    """The run has done its work; `facts`: the version that it was about, and what else there is to count."""
    context = FlowRunContext.get()
    seconds = round((datetime.now(UTC) - context.start_time).total_seconds(), 3) if context else None
    ids = {"index": config.index.name, "prefect_run": runtime.flow_run.id}
    logs.event("run.finished", log=get_run_logger(), **ids, **{"seconds": seconds, **facts})
