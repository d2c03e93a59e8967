"""Stages as tasks, and which failures are worth another try: the error's type says so."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from flows import events
from pipelines.errors import SnapdexError

P = ParamSpec("P")
R = TypeVar("R")


def is_retryable(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """True for errors that say that trying again later can help, such as a service that does not answer."""
    failure = state.result(raise_on_failure=False)
    return isinstance(failure, SnapdexError) and failure.retryable


RETRIES: dict[str, Any] = {
    "retries": 4,
    "retry_delay_seconds": exponential_backoff(backoff_factor=5),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_retryable,
}


def stage(name: str, function: Callable[P, R]) -> Task[P, R]:
    """The function as a task that logs when it is done."""

    @wraps(function)
    def reported(*arguments: P.args, **options: P.kwargs) -> R:
        began = time.monotonic()
        result = function(*arguments, **options)
        events.stage_finished(name, arguments, result, time.monotonic() - began)
        return result

    return task_of(name, reported)


def task_of(name: str, function: Callable[P, R]) -> Task[P, R]:
    """The function as a task. Results go on in memory: what must outlive a run is in the store and the database."""
    return task(name=name, cache_policy=NO_CACHE, persist_result=False, **RETRIES)(function)
