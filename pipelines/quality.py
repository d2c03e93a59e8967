"""What a version is worth: its search asked by a golden set, and the sizes of its chunks.

`index` can search and `evaluate` can score; here they meet, for the gate of a run, for `snapdex eval`, and for the
metrics that `python -m pipelines.evaluate` leaves for DVC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines import evaluate, index
from pipelines.asking import affords_exact, asking, forgetful
from pipelines.calibrate import learn
from pipelines.config import Config
from pipelines.errors import GateFailed, NotFoundError
from pipelines.evaluate import Answer, Evaluation, Hit, Query
from pipelines.evaluate.outputs import (
    Metrics,
    conditions,
    golden_sha256,
    read_metrics,
    size_metrics,
    write_metrics,
)
from pipelines.evaluate.page import Subject
from pipelines.files import Workspace
from pipelines.index.build import read_recorded
from pipelines.index.catalog import get_index, get_version, set_calibration, set_gate, set_metrics
from pipelines.index.history import documents_of
from pipelines.index.sizes import sizes_of
from pipelines.progress import Progress

LEARNED = "learned_"  # begins the names of what is kept as the version's calibration


@dataclass(frozen=True)
class Drift:
    """The active version: how it answers now, its metrics from when it was made, documents that it does not have."""

    version: index.Version
    now: Evaluation
    then: dict[str, float]
    missing: list[str]


def evaluate_version(
    config: Config,
    workspace: Workspace,
    queries: Sequence[Query],
    version: int,
    *,
    exact: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """How well search in `version` answers the golden set, with the settings of the section `search`.

    `exact`: with every distance computed, where the version is small enough (see `affords_exact`): another machine
    repeats that, while a graph is built anew by each. Otherwise latency is measured, too, and is that of a reader:
    `search.k` hits, the graph, and encoding the query.
    """
    with asking(config, workspace, [query.text for query in queries]) as batched:
        every = exact and affords_exact(batched, version)

        def search(text: str, k: int) -> Answer:
            found = batched.search(text, k=k, at=version, exact=every)
            hits = [
                Hit(document, hit.text, tuple(hit.section), hit.score)
                for hit in found.hits
                for document in (hit.document, *hit.also_in)
            ]
            return Answer(hits, found.abstained)

        if exact:
            return evaluate.evaluate(queries, search, progress=progress)
        with index.open_index(config.index.name, workspace=workspace.root, config=forgetful(config)) as reader:

            def as_reader(text: str) -> None:
                reader.search(text, at=version)

            as_reader(queries[0].text)  # loads the model
            return evaluate.evaluate(queries, search, as_reader=as_reader, progress=progress)


def missing_from(config: Config, workspace: Workspace, queries: Sequence[Query], version: int) -> list[str]:
    """The documents that the golden set names and `version` does not have."""
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        opened = get_index(connection, config.index.name)
        documents = documents_of(connection, opened, get_version(connection, opened, version))
    return evaluate.missing_documents(queries, {document.uri for document in documents})


def measure_built(config: Config, workspace: Workspace, *, progress: Progress | None = None) -> Metrics:
    """Measure the version that manifest `snapshot` names, whatever was measured before."""
    built = read_recorded(workspace, config.index.name)
    if built is None:
        raise NotFoundError("no version was built from this workspace", hint="build one: dvc repro, or snapdex run")
    return measure(config, workspace, built.version, built.snapshot, progress=progress)[0]


def measure(
    config: Config, workspace: Workspace, version: int, snapshot: str, *, progress: Progress | None = None
) -> tuple[Metrics, Evaluation | None]:
    """Measure a version, write `data/metrics/` and the version's row; returns the metrics, and the evaluation that they
    come from where there is a golden set.

    Raises `NotFoundError` where this database has another snapshot under that number, or none.
    """
    name = config.index.name
    queries = evaluate.golden_queries(config.gate, workspace.root)
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        opened = get_index(connection, name)
        row = get_version(connection, opened, version)
        if row.snapshot != snapshot:
            raise NotFoundError(
                f"version {version} of this database is not the snapshot {snapshot[:12]} that the files describe",
                hint="load it: dvc repro --force --single-item build",
            )
        sizes = sizes_of(connection, opened, version)
    metrics = size_metrics(sizes.documents, sizes.occurrences, sizes.tokens) | {"queries": len(queries)}
    if queries:
        learned = learn(config, workspace, version) if row.calibration is None else row.calibration
        if learned:
            with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
                set_calibration(connection, opened, version, learned)  # before it is searched as readers search it
        metrics |= {f"{LEARNED}{name}": value for name, value in learned.items()}
    found = evaluate_version(config, workspace, queries, version, exact=True, progress=progress) if queries else None
    metrics |= found.metrics if found else {}
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        set_metrics(connection, opened, version, _numbers(metrics))
    metrics |= conditions(snapshot, workspace.root / config.gate.golden if queries else None, config.search)
    return write_metrics(workspace, name, metrics, found.per_query if found else {}, sizes.tokens), found


def adopt(config: Config, workspace: Workspace, version: int, metrics: Metrics | None) -> None:
    """Give a version what was measured and learned of its snapshot by another database, if this one knows nothing.

    `metrics`: what `data/metrics/` says, now or at a commit. Those of another snapshot are left alone.
    """
    if metrics is None:
        return
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        opened = get_index(connection, config.index.name)
        row = get_version(connection, opened, version)
        if row.metrics is not None or not row.snapshot.startswith(str(metrics.get("snapshot", "none"))):
            return
        learned = {name.removeprefix(LEARNED): metrics[name] for name in metrics if name.startswith(LEARNED)}
        if learned:
            set_calibration(connection, opened, version, learned)
        set_metrics(connection, opened, version, _numbers(metrics))


def _numbers(metrics: Metrics) -> dict[str, float]:
    of_others = {name for name, value in metrics.items() if isinstance(value, str) or name.startswith(LEARNED)}
    return {name: metrics[name] for name in metrics.keys() - of_others}


def check_gate(
    config: Config, workspace: Workspace, built: index.BuildReport, found: Evaluation | None = None
) -> dict[str, Any] | None:
    """Compare the candidate with the active version on the golden set, and keep the decision with the candidate.

    None where there is no gate or nothing active. `found`: the candidate's evaluation, where there is one already. Both
    are searched exactly: what differs is documents, chunks and vectors, and no accident of a graph. Raises `GateFailed`
    when the candidate does not pass: it stays sealed, and readers keep the active version.
    """
    queries = evaluate.golden_queries(config.gate, workspace.root)
    if not queries or built.active_version is None:
        return None
    candidate = found or evaluate_version(config, workspace, queries, built.version, exact=True)
    active = evaluate_version(config, workspace, queries, built.active_version, exact=True)
    decision: dict[str, Any] = {"version": built.version, "against": built.active_version}
    decision |= evaluate.gate(candidate, active, config.gate)
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        set_gate(connection, get_index(connection, config.index.name), built.version, decision)
    if not decision["passed"]:
        raise GateFailed(
            f"version {built.version} has {config.gate.metric} {decision['candidate']:.3f}, the active version"
            f" {built.active_version} has {decision['active']:.3f}: it is not published"
            f" ({decision['outcome']}: {decision['reason']})",
            hint=f"snapdex diff {built.active_version} {built.version};"
            f" to insist: snapdex publish {built.version} --override REASON",
            gate=decision,
            version=built.version,
            snapshot=built.snapshot,
        )
    return decision


def drift(config: Config, workspace: Workspace, *, progress: Progress | None = None) -> Drift | None:
    """How the active version answers the golden set now, beside what was measured when it was made.

    Search is as readers have it, with the graph and the present settings; what was measured then was exact. None where
    there is no golden set. Raises `NotFoundError` where no version is active.
    """
    queries = evaluate.golden_queries(config.gate, workspace.root)
    if not queries:
        return None
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        version = get_version(connection, get_index(connection, config.index.name), "active")
    now = evaluate_version(config, workspace, queries, version.number, progress=progress)
    return Drift(version, now, version.metrics or {}, missing_from(config, workspace, queries, version.number))


def measured(config: Config, workspace: Workspace, snapshot: str) -> Metrics | None:
    """The metrics in `data/metrics/`, if they are of this snapshot, this golden set and this search."""
    queries = evaluate.golden_queries(config.gate, workspace.root)
    found = read_metrics(workspace, config.index.name)
    of = conditions(snapshot, workspace.root / config.gate.golden if queries else None, config.search)
    return found if found is not None and found.items() >= of.items() else None


def subject_of(config: Config, version: index.Version, golden: Path) -> Subject:
    """What the page of an evaluation is about."""
    return Subject(
        index=config.index.name,
        version=version.number,
        snapshot=version.snapshot,
        created_at=version.created_at,
        documents=version.documents,
        chunks=version.chunks,
        model=version.model,
        golden=str(golden),
        golden_sha256=golden_sha256(golden),
        mode=config.search.mode,
        k=config.search.k,
        measured_at=datetime.now(UTC),
    )
