"""Printing: JSON for programs, short text for people. Text from documents cannot steer the terminal."""

import dataclasses
import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import click


def emit_json(value: object) -> None:
    for_people = sys.stdout.isatty()
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2 if for_people else None))


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, date | UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def safe(text: str) -> str:
    """Text without control and direction characters, which could rewrite what the terminal shows."""
    return "".join(
        " " if c in "\t\n\r" else c for c in text if c in "\t\n\r" or unicodedata.category(c) not in ("Cc", "Cf", "Cs")
    )


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> None:
    """Columns as wide as their content."""
    cells = [[safe(str(value)) for value in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        click.echo("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())


def metrics_table(metrics: Mapping[str, float | None], confidence: Mapping[str, tuple[float, float]]) -> None:
    """A line for each, with its interval where it has one."""
    for name, value in metrics.items():
        low, high = confidence.get(name, (None, None))
        shown = "-" if value is None else f"{value:.3f}"
        click.echo(f"{name:<20} {shown:>8}" + (f"  [{low:.3f}, {high:.3f}]" if low is not None else ""))


def excerpt(text: str, length: int = 220) -> str:
    line = " ".join(safe(text).split())
    return line if len(line) <= length else line[: length - 1].rsplit(" ", 1)[0] + " …"


def size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def changes_line(documents: dict[str, int]) -> str:
    parts = [
        f"{documents[name]:,} {name}"
        for name in ("added", "modified", "removed", "renamed", "unchanged")
        if documents[name]
    ]
    aside = [f"{documents[name]:,} {name}" for name in ("quarantined", "excluded") if documents[name]]
    return f"{documents['total']:,} ({', '.join(parts) or 'none'})" + (f"; {', '.join(aside)}" if aside else "")
