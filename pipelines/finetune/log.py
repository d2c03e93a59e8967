"""What training tells while it goes on. `pipelines.tracking` keeps it for MLflow."""

from collections.abc import Mapping
from typing import Protocol


class Log(Protocol):
    def metrics(self, values: Mapping[str, float], step: int) -> None: ...


class Unlogged:
    """A log that nobody reads."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        pass
