"""The stage `examples`: what a person wrote, checked and divided."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.config import Config
from pipelines.errors import ConfigError, InputError
from pipelines.examples import CHECK, HELD_OUT, TRAIN, Kind, check_for, examples_folder, section_of
from pipelines.examples.check import check
from pipelines.examples.checks import read_checks
from pipelines.examples.rows import Example, Preference, read_examples, write_examples
from pipelines.examples.said import said
from pipelines.files import Workspace, atomic_write
from pipelines.pairs import Checked, refuse
from pipelines.pairs.split import is_held_out
from pipelines.progress import Progress, Silent

SHARED = ("leakage", "group")  # errors of rows that are left out, because the evaluation has them
ROWS = {"sft": "chats", "dpo": "preferences"}


@dataclass(frozen=True)
class ExamplesReport:
    """What was made. `dropped`: how many rows were left out, and why; `statistics`: of the data as it came."""

    kind: Kind
    train: int
    held_out: int
    dropped: dict[str, int]
    warnings: list[str]
    statistics: dict[str, int | float]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run(
    config: Config, workspace: Workspace, name: str, kind: Kind, *, progress: Progress | None = None
) -> ExamplesReport:
    """Divide the data of the model `name` by group into what is learned and what is held out.

    The same data and parameters give the same bytes. Raises `ConfigError` where no data is named, and `InputError` that
    names lines where there are errors; rows that the evaluation has, too, are left out.
    """
    began = time.perf_counter()
    section, folder = section_of(config, kind, name), examples_folder(workspace, name)
    if not section.data:
        raise ConfigError(
            f"{kind}.data names no file", hint=f"set it to a JSONL file of {ROWS[kind]}: docs/behaviour.md"
        )
    data = workspace.root / section.data
    evaluation = workspace.root / section.evaluation if section.evaluation else None
    checks = read_checks(workspace.root / section.checks) if section.checks else {}
    if evaluation is not None:
        _refuse(evaluation, check_for(section, workspace, evaluation), kind)
    found = check_for(section, workspace, data, against=evaluation)
    _refuse(data, found, kind)

    rows = int(found.statistics["rows"])
    leaking = _leaking(found)
    progress = progress or Silent()
    progress.start("examples", rows)
    if evaluation is not None:
        held_out = write_examples(folder / HELD_OUT, _rows(evaluation, checks))
    else:
        held = (row for row in _rows(data, checks) if is_held_out(_group(row), section))
        held_out = write_examples(folder / HELD_OUT, held)
    learned = (
        row
        for row in _rows(data, checks, progress)
        if row.line not in leaking and (evaluation is not None or not is_held_out(_group(row), section))
    )
    train = write_examples(folder / TRAIN, learned)
    near = _leaking(check(folder / TRAIN, against=folder / HELD_OUT)) if evaluation is None else set()
    if near:  # prompts that nearly agree are not of one group by themselves
        train = write_examples(folder / TRAIN, (row for row in read_examples(folder / TRAIN) if row.line not in near))
    if not train:
        raise InputError(f"{data} leaves nothing to learn from", hint=f"add rows, or lower {kind}.held_out")
    made = train + len(near) + len(leaking) + (held_out if evaluation is None else 0)
    dropped = {"in the evaluation": len(leaking), "repeated": rows - made, "too near to held-out ones": len(near)}
    dropped = {reason: count for reason, count in dropped.items() if count}
    _write_check(folder / CHECK, found, dropped)
    return ExamplesReport(
        kind=kind,
        train=train,
        held_out=held_out,
        dropped=dropped,
        warnings=list(_warnings(found)),
        statistics=found.statistics,
        seconds=time.perf_counter() - began,
    )


def _refuse(path: Path, checked: Checked, kind: Kind) -> None:
    refuse(path, checked, but=SHARED)
    first = next(read_examples(path))
    if isinstance(first, Preference) != (kind == "dpo"):
        there = "preferences" if isinstance(first, Preference) else "chats"
        raise InputError(f"{path} holds {there}: {kind} learns from {ROWS[kind]}", hint="see docs/behaviour.md")


def _leaking(checked: Checked) -> set[int]:
    """The lines of the rows that the evaluation has, too."""
    return {each.line for each in checked.findings if each.kind in SHARED}


def _rows(path: Path, checks: Mapping[str, Any], progress: Progress | None = None) -> Iterator[Example]:
    """The rows without repeated ones, each with what its answer must fulfil."""
    seen = set()
    for example in read_examples(path):
        if progress is not None:
            progress.advance()
        row = said(example).row
        if row not in seen:
            seen.add(row)
            yield example if example.checks else replace(example, checks=checks)


def _group(example: Example) -> str:
    return f"group {example.group}" if example.group else f"prompt {said(example).prompt}"


def _warnings(found: Checked) -> Iterator[str]:
    """One of each kind."""
    firsts = {each.kind: each for each in reversed(found.findings) if each.level == "warning"}
    for kind, first in sorted(firsts.items()):
        count = found.counts[kind]
        lines = f"{count:,} findings, the first in line {first.line}: " if count > 1 else ""
        yield f"{kind}: {lines}{first.detail}"


def _write_check(path: Path, found: Checked, dropped: Mapping[str, int]) -> None:
    """What was found in the data, with its lines there."""
    findings = [asdict(each) for each in found.findings]
    told = {"counts": found.counts, "statistics": found.statistics, "dropped": dropped, "findings": findings}
    atomic_write(path, json.dumps(told, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
