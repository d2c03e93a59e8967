"""What moving the pointer costs: on indexes of three sizes, and while eight processes read.

A move is `publish` or `rollback` as a program calls them, a new connection included. Under readers, two versions have
no text in common, and every text says which version it belongs to: a result that mixes them is torn, one with fewer
hits than were asked for is missing some.
"""

import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier, Event

import numpy as np

from benchmarks.report import Options, Report
from benchmarks.synthetic import build_version, unit_vectors, write_content
from benchmarks.workspaces import config_of, fresh_workspace, say
from pipelines import index
from pipelines.config import Config
from pipelines.files import Workspace
from pipelines.index.catalog import get_index

DIMENSION = 64  # the pointer does not know how long vectors are; short ones build sooner
CHUNKS_PER_DOCUMENT = 10
READERS = 8
K = 5
READ_CHUNKS = 1000


def measure(options: Options) -> Report:
    sizes, moves, reading_moves = ([1000, 10_000], 50, 200) if options.quick else ([1000, 10_000, 100_000], 300, 1000)
    report = Report(
        "pointer", f"{moves} publishes and {moves} rollbacks per index; {reading_moves:,} moves under {READERS} readers"
    )
    with fresh_workspace() as workspace:
        configs = {
            size: config_of(index={"name": f"chunks-{size}"}, embed={"model": f"hash:{DIMENSION}"}) for size in sizes
        }
        for size, config in configs.items():
            _two_versions(workspace, config, size, apart=False)
            say(f"pointer: {size:,} chunks are built")
        _on_each_size(workspace, configs, moves, report)
        _under_readers(workspace, reading_moves, report)
    return report


def _on_each_size(workspace: Workspace, configs: dict[int, Config], moves: int, report: Report) -> None:
    """The sizes in turn, so that whatever else the machine does slows all of them."""
    url = index.database_url(workspace)
    publishes: dict[int, list[float]] = {size: [] for size in configs}
    rollbacks: dict[int, list[float]] = {size: [] for size in configs}
    connecting = []
    for _ in range(moves):
        connecting.append(_seconds(lambda: index.connect(url).close()))
        for size, config in configs.items():
            forward, back = _move_twice(url, config.index.name)
            publishes[size].append(forward)
            rollbacks[size].append(back)
    report.add_milliseconds("connecting alone", connecting, tail=99)
    for size in configs:
        report.add_milliseconds(f"{size:,} chunks: publish", publishes[size], tail=99, bar="< 20")
        report.add_milliseconds(f"{size:,} chunks: rollback", rollbacks[size], tail=99, bar="< 20")
    medians = [float(np.median(publishes[size] + rollbacks[size])) for size in configs]
    report.add("p50 on the largest index / on the smallest", medians[-1] / medians[0], "", "<= 1.25")


def _two_versions(workspace: Workspace, config: Config, chunks: int, *, apart: bool) -> None:
    """Versions 1 and 2 of as many chunks: with no text in common (`apart`), or with one document that differs."""
    generator = np.random.default_rng(3)
    documents = chunks // CHUNKS_PER_DOCUMENT
    changed = documents if apart else 1
    rows = []
    for version, count in ((1, documents), (2, changed)):
        content = [
            (f"{number:06}", [f"version{version} note {number} part {part}" for part in range(CHUNKS_PER_DOCUMENT)])
            for number in range(count)
        ]
        vectors = unit_vectors(generator, count * CHUNKS_PER_DOCUMENT, DIMENSION)
        rows.append(write_content(workspace, config, content, vectors).rows)
    for state in (rows[0], rows[1] + rows[0][changed:]):
        built = build_version(workspace, config, state)
        connect = partial(index.connect, index.database_url(workspace))
        index.publish(connect, config.index.name, built.version, epoch=built.epoch)


def _move_twice(url: str, name: str) -> tuple[float, float]:
    """Seconds of a rollback to version 1, and of publishing version 2 again."""
    connect = partial(index.connect, url)
    back = _seconds(partial(index.rollback, connect, name))
    with connect() as connection:
        epoch = get_index(connection, name).epoch
    return _seconds(partial(index.publish, connect, name, 2, epoch=epoch)), back


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


# -- under readers -----------------------------------------------------------------------------------------------------

Answer = tuple[list[float], int, int, int]  # seconds of each search; results torn, short, and of version 1


def _under_readers(workspace: Workspace, moves: int, report: Report) -> None:
    config = config_of(index={"name": "read"}, embed={"model": f"hash:{DIMENSION}"})
    _two_versions(workspace, config, READ_CHUNKS, apart=True)
    context = get_context("spawn")
    stop, ready = context.Event(), context.Barrier(READERS + 1)
    answers: SimpleQueue[Answer] = context.SimpleQueue()
    url = index.database_url(workspace)
    readers = [context.Process(target=_read, args=(url, seed, ready, stop, answers)) for seed in range(READERS)]
    for reader in readers:
        reader.start()
    ready.wait(timeout=120)
    moved = [seconds for _ in range(moves // 2) for seconds in _move_twice(url, config.index.name)]
    stop.set()
    collected = [answers.get() for _ in readers]
    for reader in readers:
        reader.join()
    report.add_milliseconds(f"under {READERS} readers: move", moved, tail=99)
    report.add_milliseconds(f"{READERS} readers: search", [s for answer in collected for s in answer[0]], tail=99)
    report.add("searches", sum(len(answer[0]) for answer in collected))
    report.add("searches that saw version 1", sum(answer[3] for answer in collected))
    report.add("torn results", sum(answer[1] for answer in collected), "", "== 0")
    report.add("results that miss hits", sum(answer[2] for answer in collected), "", "== 0")


def _read(url: str, seed: int, ready: Barrier, stop: Event, answers: "SimpleQueue[Answer]") -> None:
    """Search until told to stop, in another mode each time, and check every result."""
    queries = unit_vectors(np.random.default_rng(seed), 100, DIMENSION)
    seconds: list[float] = []
    torn = short = first = 0
    with index.connect(url) as connection:
        ready.wait(timeout=120)
        while not stop.is_set():
            turn = len(seconds)
            mode = ("dense", "lexical", "hybrid")[turn % 3]
            began = time.perf_counter()
            found = index.search(
                connection, "read", f"note {turn % 100}", vector=queries[turn % 100].tolist(), k=K, mode=mode
            )
            seconds.append(time.perf_counter() - began)
            torn += any(not hit.text.startswith(f"version{found.version} ") for hit in found.hits)
            short += len(found.hits) != K
            first += found.version == 1
    answers.put((seconds, torn, short, first))
