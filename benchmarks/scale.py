"""The ingest flow beside the command, and on each task runner: seconds, one snapshot id, rows in Prefect's database.

Every run is a process of its own on an empty workspace with a running Postgres, against one running Prefect server.
Events are counted apart: the server deletes them after some days (PREFECT_SERVER_EVENTS_RETENTION_PERIOD). Most rows
are those of a run, whatever its size, so they are counted for a larger corpus, too: the 5,183 abstracts of SciFact.
"""

import importlib.util
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.corpora import real_data, unpack_documentation
from benchmarks.report import Options, Report
from benchmarks.workspaces import fresh_workspace, say
from pipelines.config import FlowConfig

RUNNERS = {"local": None, "threads": None, "processes": None, "dask": "prefect_dask", "ray": "prefect_ray"}
PARAMETERS = (
    'index:\n  name: bench\nembed:\n  model: "hash:384"\nflow:\n  runner: {runner}\n  batch_documents: {batch}\n'
)
BATCH = FlowConfig().batch_documents
LARGER = 5183  # abstracts of SciFact


def measure(options: Options) -> Report:
    turns = 1 if options.quick else 3
    with real_data("docs-prefect", options.data) as collection, tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        files = unpack_documentation(collection, source, limit=150 if options.quick else None)
        report = Report("scale", f"{files} Markdown files, hash:384, 2 workers, batches of {BATCH}, median of {turns}")
        with prefect_server(Path(directory) / "prefect") as server:
            ways = ["snapdex run", *(name for name, needs in RUNNERS.items() if not needs or _installed(needs))]
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            kept: dict[str, list[int]] = {way: [] for way in ways}
            events: dict[str, list[int]] = {way: [] for way in ways}
            snapshots = set()
            larger = {} if options.quick else _rows_of_larger(server, options)
            for _ in range(turns):
                for way in ways:
                    before = server.rows()
                    taken, found = _run(way, source, server)
                    snapshots.add(found["snapshot"])
                    seconds[way].append(taken)
                    after = server.rows()
                    kept[way].append(after[0] - before[0])
                    events[way].append(after[1] - before[1])
                    say(f"scale: {way}: {taken:.1f} s, {kept[way][-1]} rows and {events[way][-1]} of events")
        for way in ways:
            report.add(f"{way}", median(seconds[way]), "s")
        report.add("flow over command", median(seconds["local"]) - median(seconds["snapdex run"]), "s", "<= 15")
        report.add("different snapshot ids", len(snapshots), "", "== 1")
        for way in ways[1:]:
            share = 1000 / files
            report.add(f"{way}: rows kept per 1,000 documents", share * median(kept[way]), "", "<= 100")
            report.add(f"{way}: rows of events per 1,000 documents", share * median(events[way]))
        for way, (stay, expire) in larger.items():
            report.add(f"{way}, {LARGER:,} documents: rows kept per 1,000", 1000 * stay / LARGER, "", "<= 100")
            bar = "<= 100" if way == "local" else ""
            report.add(f"{way}, {LARGER:,} documents: with events", 1000 * (stay + expire) / LARGER, "", bar)
    return report


def _rows_of_larger(server: "Server", options: Options) -> dict[str, tuple[int, int]]:
    """By task runner: rows kept, and rows of events."""
    found = {}
    with real_data("scifact", options.data) as claims:
        for way in ("local", "threads"):
            before = server.rows()
            _run(way, claims / "corpus.jsonl", server)
            after = server.rows()
            found[way] = (after[0] - before[0], after[1] - before[1])
            say(f"scale: {way}: {LARGER:,} documents, {found[way][0]} rows and {found[way][1]} of events")
    return found


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _run(way: str, source: Path, server: "Server") -> tuple[float, dict[str, Any]]:
    runner = way if way in RUNNERS else "local"
    program = ["pipelines.cli", "run", "--json", "-q"] if way == "snapdex run" else ["flows.ingest"]
    with fresh_workspace() as workspace:
        workspace.params.write_text(PARAMETERS.format(runner=runner, batch=BATCH), "utf-8")
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *program, str(source)],
            env={**os.environ, **server.environment, "SNAPDEX_HOME": str(workspace.root)},
            check=True,
            capture_output=True,
            text=True,
        )
        taken = time.perf_counter() - began
    return taken, json.loads(done.stdout.splitlines()[-1])


class Server:
    def __init__(self, home: Path, port: int) -> None:
        self.environment = {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "DO_NOT_TRACK": "1",
        }
        self._database = home / "prefect.db"

    def rows(self) -> tuple[int, int]:
        """In all tables but those of events, and in those; once what is on its way has arrived."""
        last = (-1, -1)
        while (found := self._count()) != last:
            last = found
            time.sleep(3)
        return found

    def _count(self) -> tuple[int, int]:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=30)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            counts = {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
        events = counts.get("events", 0) + counts.get("event_resources", 0)
        return sum(counts.values()) - events, events


@contextmanager
def prefect_server(home: Path) -> Iterator[Server]:
    """A Prefect server with an empty database, on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Server(home, port)
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
        env={**os.environ, **server.environment, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{server.environment['PREFECT_API_URL']}/health", timeout=5).is_success:
                    break
            except httpx.HTTPError:
                time.sleep(0.5)
        yield server
    finally:
        process.terminate()
        process.wait(30)
