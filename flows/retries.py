"""Which failures are worth another try: the error's type says so."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from pipelines.errors import SnapdexError


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
