"""The main job: collect, parse, chunk, embed, build, gate, publish. Also as a dry run.

The stages in order, as plain functions; `flows/ingest.py` runs the same ones as Prefect tasks.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import chunk, collect, embed, evaluate, index, logs, parse
from pipelines.config import Config
from pipelines.errors import ConflictError, GateFailed, InputError
from pipelines.estimate import estimate, remember_rate
from pipelines.files import Workspace, flocked
from pipelines.manifests import read_chunks
from pipelines.model import Quarantined
from pipelines.models import pinned
from pipelines.progress import Progress, Silent
from pipelines.quality import adopt, check_gate, measure, measured
from pipelines.record import Place, begin_record, complete_record


@dataclass(frozen=True)
class Prepared:
    """The manifests are up to date; what it took, and what it would change."""

    collected: collect.CollectReport
    parsed: parse.ParseReport
    chunked: chunk.ChunkReport
    forecast: index.Forecast

    @property
    def quarantined(self) -> list[Quarantined]:
        by_uri = {q.uri: q for q in [*self.parsed.quarantined, *self.collected.quarantined]}
        return [by_uri[uri] for uri in sorted(by_uri)]

    def reasons(self) -> list[dict[str, str]]:
        """Each document in quarantine, and why."""
        return [{"document": q.uri, "reason": q.reason.value, "detail": q.detail} for q in self.quarantined]

    def documents(self) -> dict[str, int]:
        """Every input in exactly one place: total = indexed; quarantined and excluded ones are counted beside it."""
        changes = self.forecast.documents
        return {
            "total": self.forecast.total_documents,
            "added": len(changes.added),
            "modified": len(changes.modified),
            "removed": len(changes.removed),
            "renamed": len(changes.renamed),
            "unchanged": changes.unchanged,
            "quarantined": len(self.quarantined),
            "excluded": sum(self.collected.excluded.values()) + len(self.collected.skipped),
        }

    def chunks(self) -> dict[str, int]:
        return {
            "total": self.forecast.total_chunks,
            "added": self.forecast.added_chunks,
            "removed": self.forecast.removed_chunks,
        }

    def seconds(self) -> dict[str, float]:
        return {
            "collect": self.collected.seconds,
            "parse": self.parsed.seconds,
            "chunk": self.chunked.seconds,
        }


def prepare(
    config: Config,
    workspace: Workspace,
    *,
    sources: Sequence[str] | None = None,
    base: Path | None = None,
    allow_mass_delete: bool = False,
    recompute: bool = False,
    loading: index.Loading | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Bring documents, elements and chunks up to date with the sources, and compare them with the active version.

    `loading` is started, and not begun, as soon as it is known that there will be much to load.
    """
    progress = progress or Silent()
    evaluate.golden_queries(config.gate, workspace.root)  # what the gate would refuse is refused at once
    collected = collect.run(
        config,
        workspace,
        sources=list(sources) if sources else None,
        base=base,
        allow_mass_delete=allow_mass_delete,
        recompute=recompute,
        progress=progress,
    )
    logs.stage_finished("collect", collected)
    if loading and collected.added + collected.changed >= index.WORTH_A_PROCESS:
        loading.start()
    parsed = parse.run(config, workspace, recompute=recompute, progress=progress)
    logs.stage_finished("parse", parsed, quarantined=len(parsed.quarantined))
    chunked = chunk.run(config, workspace, recompute=recompute, progress=progress)
    logs.stage_finished("chunk", chunked)
    forecast = forecast_of(config, workspace, allow_mass_delete=allow_mass_delete)
    return Prepared(collected, parsed, chunked, forecast)


def forecast_of(config: Config, workspace: Workspace, *, allow_mass_delete: bool = False) -> index.Forecast:
    """What the present manifest `chunks` would change in the active version.

    Raises `InputError` where the index would lose many documents, or all. Collect has compared the sources with what
    they were; this compares with what readers have, which also covers a lost manifest and documents that all fail.
    """
    _, rows = read_chunks(workspace, config.index.name)
    if not rows:
        raise InputError(
            "not one document could be processed; nothing was published",
            hint="`python -m pipelines.parse` reports the reasons; documents that are mended are tried again",
        )
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        index.check_parameters(connection, config.index)
        found = index.forecast(connection, config.index.name, rows, workspace.store("chunks"))
    removed = len(found.documents.removed)
    if not allow_mass_delete:
        before = found.total_documents - len(found.documents.added) + removed
        collect.refuse_mass_deletion(config.collect, before, removed, emptied=())
    return found


def run(
    config: Config,
    workspace: Workspace,
    *,
    sources: Sequence[str] | None = None,
    base: Path | None = None,
    publish: bool = True,
    allow_mass_delete: bool = False,
    recompute: bool = False,
    record: bool = False,
    reason: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The whole job in this process; returns the report that `snapdex run --json` prints.

    Raises whatever a stage raises. Finished work is kept, so running again continues; readers see the old version
    until the new one is published. `ConflictError` when another run works in this workspace, or somebody else
    published in the meantime. `record`: DVC and git have the version when this returns.
    """
    began = time.monotonic()
    progress = progress or Silent()
    logs.about(index=config.index.name, version=None, snapshot=None)
    config = with_pinned_model(config)
    with locked(workspace), index.Loading(config, workspace) as loading:
        place = begin_record(config, workspace) if record else None
        prepared = prepare(
            config,
            workspace,
            sources=sources,
            base=base,
            allow_mass_delete=allow_mass_delete,
            recompute=recompute,
            loading=loading,
            progress=progress,
        )
        if loading.started:
            loading.begin()  # beside the encoder
        embedded = embed.run(config, workspace, recompute=recompute, progress=progress)
        logs.stage_finished("embed", embedded)
        remember_rate(config, workspace, embedded.embedded, embedded.encode_seconds)
        report = report_of(prepared, embedded)
        built = index.build(
            config,
            workspace,
            epoch=prepared.forecast.epoch,
            report=report,
            quarantined=prepared.quarantined,
            loading=loading if loading.started else None,
            progress=progress,
        )
        logs.about(version=built.version, snapshot=built.snapshot)
        logs.stage_finished("build", built)
        report = finish(config, workspace, report, built, publish=publish, reason=reason, began=began)
        for stage in ("evaluate", "publish"):
            logs.event("stage.finished", stage=stage, seconds=report["seconds"][stage])
        if place:
            report = recorded(config, place, report)
            logs.event("stage.finished", stage="record", seconds=report["seconds"]["record"])
        logs.event("run.finished", seconds=report["seconds"]["total"], published=report["published"])
        return report


def with_pinned_model(config: Config) -> Config:
    """The parameters with the version that `embed.model` has now: the stages of a run agree about it, also where an
    alias moves meanwhile."""
    return config.with_model(pinned(config.embed.model))


def report_of(prepared: Prepared, embedded: embed.EmbedReport) -> dict[str, Any]:
    """What is known before the version has a number."""
    return {
        "documents": prepared.documents(),
        "chunks": prepared.chunks(),
        "parsed": prepared.parsed.parsed,
        "written": prepared.chunked.written,
        "embedded": embedded.embedded,
        "seconds": {**prepared.seconds(), "embed": embedded.seconds},
        "quarantined": prepared.reasons(),
    }


def finish(
    config: Config,
    workspace: Workspace,
    report: dict[str, Any],
    built: index.BuildReport,
    *,
    publish: bool,
    reason: str | None,
    began: float,
) -> dict[str, Any]:
    """Publish what was built, unless there is nothing to publish or somebody decided against this version before.

    Raises `GateFailed`, with this report in its context, where the version is worse than the active one.
    """
    started = time.monotonic()
    metrics, found = measured(config, workspace, built.snapshot), None
    if metrics is None:
        metrics, found = measure(config, workspace, built.version, built.snapshot)
    else:
        adopt(config, workspace, built.version, metrics)
    evaluated = time.monotonic()
    note = None
    published = False
    decision = None
    refused: GateFailed | None = None
    to_publish = f"publish it with: snapdex publish {built.version}"
    if built.active:
        pass  # nothing to publish
    elif not publish:
        note = to_publish
    elif built.held:
        note = f"the content of version {built.version} was rolled back; {to_publish}"
    else:
        try:
            decision = check_gate(config, workspace, built, found)
        except GateFailed as error:
            refused, decision, note = error, error.context["gate"], str(error)
        else:
            index.publish(
                lambda: index.connect(index.database_url(workspace)),
                config.index.name,
                built.version,
                epoch=built.epoch,
                reason=reason,
            )
            published = True
    now = time.monotonic()
    spent = {"build": built.seconds, "evaluate": evaluated - started, "publish": now - evaluated, "total": now - began}
    seconds = {**report["seconds"], **spent}
    whole = {
        "index": config.index.name,
        "version": built.version,
        "snapshot": built.snapshot,
        "published": published,
        "parent": built.parent,
        **report,
        "metrics": metrics,
        "gate": decision,
        "record": None,
        "note": note,
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
    }
    if refused:
        refused.context["report"] = whole
        raise refused
    return whole


def recorded(config: Config, place: Place, report: dict[str, Any]) -> dict[str, Any]:
    """The report of a version that DVC and git have, too. What fails here is made good by the next recorded run."""
    began = time.monotonic()
    record = complete_record(config, place).to_json()
    seconds = round(time.monotonic() - began, 3)
    total = round(report["seconds"]["total"] + seconds, 3)
    return {**report, "record": record, "seconds": {**report["seconds"], "record": seconds, "total": total}}


def plan(
    config: Config,
    workspace: Workspace,
    *,
    sources: Sequence[str] | None = None,
    base: Path | None = None,
    allow_mass_delete: bool = False,
    recompute: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What `run` would do with the same arguments; nothing that lasts is written. Raises what `run` would raise."""
    config = with_pinned_model(config)
    with scratch(workspace, config.index.name) as dry:
        prepared = prepare(
            config,
            dry,
            sources=sources,
            base=base,
            allow_mass_delete=allow_mass_delete,
            recompute=recompute,
            progress=progress,
        )
        to_embed = embed.missing_chunks(config, dry, recompute=recompute)
        changes = prepared.forecast.documents
        return {
            "index": config.index.name,
            "documents": prepared.documents(),
            "chunks": prepared.chunks(),
            "to_write": prepared.chunked.written,
            "to_embed": to_embed,
            "estimate": estimate(
                config,
                workspace,
                to_embed=to_embed,
                added_chunks=prepared.forecast.added_chunks,
                writing_cost=prepared.chunked.cost,
            ),
            "changes": {
                "added": changes.added,
                "modified": changes.modified,
                "removed": changes.removed,
                "renamed": changes.renamed,
            },
            "quarantined": prepared.reasons(),
        }


@contextmanager
def scratch(workspace: Workspace, index_name: str) -> Iterator[Workspace]:
    """A view of the workspace whose writes go to a temporary directory."""
    workspace.state.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="plan-", dir=workspace.state))
    try:
        yield workspace.dry(directory, index_name)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def locked(workspace: Workspace, wait_seconds: float = 0) -> Iterator[None]:
    """One run at a time in a workspace: manifests have one writer. The kernel frees the lock of a killed run.

    Raises `ConflictError` when another run has it for longer than `wait_seconds`.
    """
    workspace.state.mkdir(parents=True, exist_ok=True)
    with (workspace.state / "run.lock").open("w") as file:
        if not flocked(file, wait_seconds):
            raise ConflictError(
                "another run works in this workspace", hint="wait for it to end, or use a workspace of its own"
            )
        yield
