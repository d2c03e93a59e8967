"""A measurement's result: figures with their bars, as a table for people and a line of JSON for later."""

import json
import operator
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results.jsonl"
_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, "==": operator.eq}


@dataclass(frozen=True)
class Options:
    """What the command line says. `data`: real data already unpacked; `keep`: where costly workspaces stay."""

    data: Path | None = None
    quick: bool = False
    keep: Path | None = None


@dataclass(frozen=True)
class Figure:
    """One number. `bar` is what it should be, such as `<= 6`; empty for a number that only informs."""

    name: str
    value: float
    unit: str = ""
    bar: str = ""

    @property
    def met(self) -> bool | None:
        if not self.bar:
            return None
        comparison, _, limit = self.bar.partition(" ")
        return bool(_COMPARE[comparison](self.value, float(limit)))


@dataclass
class Report:
    """The figures of one measurement in the order in which they were taken, and what they were taken on."""

    benchmark: str
    conditions: str
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str = "", bar: str = "") -> None:
        self.figures.append(Figure(name, float(value), unit, bar))

    def add_milliseconds(self, name: str, seconds: Sequence[float], *, tail: int, bar: str = "") -> None:
        """The median and the percentile `tail`, to which the bar belongs."""
        p50, high = np.percentile(np.asarray(seconds) * 1000, [50, tail])
        self.add(f"{name} p50", p50, "ms")
        self.add(f"{name} p{tail}", high, "ms", bar)

    def table(self) -> str:
        rows = [(f.name, _number(f.value), f.unit, f.bar, _verdict(f.met)) for f in self.figures]
        lines = [f"{self.benchmark}: {self.conditions}", *_aligned([("", "figure", "", "bar", ""), *rows])]
        return "\n".join(lines) + "\n"

    def append(self, command: Sequence[str], path: Path = RESULTS) -> None:
        """Add this result to the file of results, with what one needs to know to compare it."""
        record = {
            "benchmark": self.benchmark,
            "command": " ".join(command),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "load_average": [round(value, 2) for value in os.getloadavg()],
            "conditions": self.conditions,
            "figures": {f.name: round(f.value, 6) for f in self.figures},
            "missed": [f.name for f in self.figures if f.met is False],
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _number(value: float) -> str:
    if (value == int(value) and abs(value) >= 10) or value == 0:
        return f"{int(value):,}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def _verdict(met: bool | None) -> str:
    return "" if met is None else "ok" if met else "MISSED"


def _aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column == 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
