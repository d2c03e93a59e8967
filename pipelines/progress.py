"""What a stage tells the person who waits: how much there is to do, and how much is done."""

from typing import Protocol


class Progress(Protocol):
    """A stage calls `start` once, then `advance` as work is finished. Implementations draw, log, or do nothing."""

    def start(self, stage: str, total: int) -> None: ...

    def advance(self, count: int = 1) -> None: ...


class Silent:
    """Progress that nobody sees."""

    def start(self, stage: str, total: int) -> None:
        pass

    def advance(self, count: int = 1) -> None:
        pass
