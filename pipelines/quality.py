"""What a version is worth: its search asked by a golden set, and the sizes of its chunks.

`index` can search and `evaluate` can score; here they meet, for the gate of a run, for `snapdex eval`, and for the
metrics that `python -m pipelines.evaluate` leaves for DVC.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines import evaluate, index
from pipelines.calibrate import learn
from pipelines.config import Config
from pipelines.errors import NotFoundError
from pipelines.evaluate.outputs import Metrics, conditions, read_metrics, size_metrics, write_metrics
from pipelines.files import Workspace
from pipelines.index.build import read_recorded
from pipelines.index.catalog import get_index, get_version, set_calibration, set_metrics
from pipelines.index.sizes import sizes_of
from pipelines.progress import Progress

WORST = 20  # queries that are shown with what was returned
SHOWN = 5  # documents of each
LEARNED = "learned_"  # begins the names of what is kept as the version's calibration


@dataclass(frozen=True)
class Answer:
    """What search returned for a query of the golden set, best first, and its score in `gate.metric`."""

    query: str
    score: float
    expected: list[str]
    returned: list[str]


@dataclass(frozen=True)
class Drift:
    """Metrics of the active version now and when it was made, and the queries that it answers worst."""

    version: index.Version
    queries: int
    now: dict[str, float]
    then: dict[str, float]
    worst: list[Answer]


def evaluate_version(
    config: Config,
    workspace: Workspace,
    queries: Sequence[evaluate.Query],
    version: int,
    *,
    exact: bool = False,
    progress: Progress | None = None,
) -> evaluate.Evaluation:
    """How well search in `version` answers the golden set, with the settings of the section `search`.

    `exact`: with every distance computed, which another machine repeats; a graph is built anew by each.
    """
    with index.open_index(config.index.name, workspace=workspace.root, config=config) as reader:

        def search(text: str, k: int) -> list[tuple[str, str]]:
            hits = reader.search(text, k=k, at=version, exact=exact).hits
            return [(document, hit.text) for hit in hits for document in (hit.document, *hit.also_in)]

        return evaluate.evaluate(queries, search, progress)


def measure_built(config: Config, workspace: Workspace, *, progress: Progress | None = None) -> Metrics:
    """Measure the version that manifest `snapshot` names, whatever was measured before."""
    built = read_recorded(workspace, config.index.name)
    if built is None:
        raise NotFoundError("no version was built from this workspace", hint="build one: dvc repro, or snapdex run")
    return measure(config, workspace, built.version, built.snapshot, progress=progress)


def measure(
    config: Config, workspace: Workspace, version: int, snapshot: str, *, progress: Progress | None = None
) -> Metrics:
    """Measure a version, write `data/metrics/` and the version's row; returns the metrics.

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
    per_query: dict[str, dict[str, float]] = {}
    if queries:
        found = evaluate_version(config, workspace, queries, version, exact=True, progress=progress)
        metrics |= found.metrics
        per_query = found.per_query
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        set_metrics(connection, opened, version, _numbers(metrics))
    metrics |= conditions(snapshot, workspace.root / config.gate.golden if queries else None, config.search)
    return write_metrics(workspace, name, metrics, per_query, sizes.tokens)


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


def drift(
    config: Config, workspace: Workspace, *, worst: int = WORST, progress: Progress | None = None
) -> Drift | None:
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
    metric = config.gate.metric
    asked = [query for query in queries if now.per_query.get(query.id, {}).get(metric, 1.0) < 1.0]
    asked.sort(key=lambda query: (now.per_query[query.id][metric], query.id))
    with index.open_index(config.index.name, workspace=workspace.root, config=config) as reader:
        answers = [
            Answer(
                query.text,
                now.per_query[query.id][metric],
                sorted(query.relevant),
                list(dict.fromkeys(hit.document for hit in reader.search(query.text, at=version.number).hits))[:SHOWN],
            )
            for query in asked[:worst]
        ]
    return Drift(version, len(queries), now.metrics, version.metrics or {}, answers)


def measured(config: Config, workspace: Workspace, snapshot: str) -> Metrics | None:
    """The metrics in `data/metrics/`, if they are of this snapshot, this golden set and this search."""
    queries = evaluate.golden_queries(config.gate, workspace.root)
    found = read_metrics(workspace, config.index.name)
    of = conditions(snapshot, workspace.root / config.gate.golden if queries else None, config.search)
    return found if found is not None and found.items() >= of.items() else None
