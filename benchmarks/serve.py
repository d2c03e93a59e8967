"""What the HTTP service answers: searches a second, latency and errors, at 1, 8 and 32 connections.

A service in a process of its own, over one version; clients in threads of another process, each with one connection
that stays open and a query that nobody asked before (`search.cache` is 0). Client, service and Postgres share the
machine, so throughput is that of all three.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks.report import Options, Report
from benchmarks.synthetic import Vectors, build_version, normalised, unit_vectors, write_content
from benchmarks.workspaces import config_of, kept_or_fresh, say
from pipelines import index
from pipelines.config import Config
from pipelines.files import Workspace
from pipelines.index.catalog import find_version

CONFIG = config_of(embed={"model": "minilm"}, search={"cache": 0}, log={"share": 0})
DIMENSION = 384
CHUNKS_PER_DOCUMENT = 10
TOPICS = 200  # vectors lie around so many points, as those of texts do
SPREAD = 0.05  # of each number of a vector around its point
WORDS = 20_000
CONNECTIONS = (1, 8, 32)
K = 10
PARAMS = """
index: {name: bench}
embed: {model: minilm}
search: {cache: 0}
log: {share: 0}
"""


@dataclass(frozen=True)
class Asked:
    """What clients got: seconds of every answer, and how many were no answer."""

    seconds: list[float]
    errors: int
    duration: float


def measure(options: Options) -> Report:
    chunks, duration = (5000, 2.0) if options.quick else (100_000, 15.0)
    report = Report("serve", f"{chunks:,} chunks, k {K}, {duration:g} s each, {os.cpu_count()} cores for all")
    with kept_or_fresh(options.keep, f"serve-{chunks}") as workspace:
        topics = unit_vectors(np.random.default_rng(7), TOPICS, DIMENSION)
        _build(workspace, CONFIG, chunks, topics)
        with _service(workspace) as port:
            for name, fields in (
                ("vector given, dense", {"mode": "dense"}),
                ("query encoded, dense", {"mode": "dense"}),
                ("query encoded, hybrid", {"mode": "hybrid"}),
            ):
                ask = partial(_in_a_process, port, fields, topics if name.startswith("vector") else None)
                ask(1, 1.0)  # what the first answers wait for is not measured
                for connections in CONNECTIONS:
                    _add(report, f"{name}, {connections} at a time", ask(connections, duration))
                    say(f"serve: {name}, {connections} at a time")
    return report


def _add(report: Report, name: str, asked: Asked) -> None:
    report.add(f"{name}: answers", len(asked.seconds) / asked.duration, "/s")
    report.add_milliseconds(name, asked.seconds, tail=99)
    report.add(f"{name}: errors", asked.errors, "", "== 0")


# -- the index ---------------------------------------------------------------------------------------------------------


def _build(workspace: Workspace, config: Config, chunks: int, topics: Vectors) -> None:
    """One published version, where there is none yet."""
    workspace.params.write_text(PARAMS, "utf-8")
    url = index.database_url(workspace)
    with index.connect(url) as connection:
        index.migrate(connection)
        if find_version(connection, config.index.name, "active"):
            return
    generator = np.random.default_rng(8)
    documents = [
        (f"{number:06}", [_text(generator) for _ in range(CHUNKS_PER_DOCUMENT)])
        for number in range(chunks // CHUNKS_PER_DOCUMENT)
    ]
    content = write_content(workspace, config, documents, _vectors(generator, topics, chunks))
    built = build_version(workspace, config, content.rows)
    index.publish(partial(index.connect, url), config.index.name, built.version, epoch=built.epoch)
    say(f"serve: {chunks:,} chunks are built")


def _vectors(generator: np.random.Generator, topics: Vectors, count: int) -> Vectors:
    around = topics[generator.integers(0, len(topics), count)]
    return normalised(around + SPREAD * generator.standard_normal(around.shape, dtype=np.float32))


def _text(generator: np.random.Generator, words: int = 40) -> str:
    """Words of which few are frequent, as in any language."""
    return " ".join(f"word{number}" for number in np.minimum(generator.zipf(1.3, words), WORDS))


# -- the service -------------------------------------------------------------------------------------------------------


@contextmanager
def _service(workspace: Workspace) -> Iterator[int]:
    """A running service; its port."""
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--port", "0", "--json"]
    environment = os.environ | {"SNAPDEX_HOME": str(workspace.root)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(json.loads(process.stdout.readline())["url"].rpartition(":")[2])
        finally:
            process.send_signal(signal.SIGTERM)


# -- clients -----------------------------------------------------------------------------------------------------------


def _in_a_process(
    port: int, fields: dict[str, Any], topics: Vectors | None, connections: int, duration: float
) -> Asked:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_ask, (port, fields, topics, connections, duration))


def _ask(port: int, fields: dict[str, Any], topics: Vectors | None, connections: int, duration: float) -> Asked:
    """As many clients, each with one connection, until the time is over."""
    seconds: list[float] = []
    errors: list[int] = []
    began = time.monotonic()

    def client(seed: int) -> None:
        generator = np.random.default_rng([seed, connections, int(began * 1000)])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() - began < duration:
            body = {"query": _text(generator, 6), "k": K, **fields}
            if topics is not None:
                body["vector"] = [round(float(value), 6) for value in _vectors(generator, topics, 1)[0]]
            content = json.dumps(body)
            asked = time.perf_counter()
            connection.request("POST", "/search", content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            found = json.loads(answer.read())
            seconds.append(time.perf_counter() - asked)
            if answer.status != 200 or len(found["hits"]) != K:
                errors.append(answer.status)
        connection.close()

    clients = [threading.Thread(target=client, args=(number,)) for number in range(connections)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    return Asked(seconds, len(errors), time.monotonic() - began)
