"""What a history costs: the room that a version takes, how much slower a search gets, how long a restore takes.

Each version replaces the whole text of one per cent of the documents, others each time, so all their chunks are new;
for the time of a search, also versions that replace one paragraph in ten of those documents, as people do.
DVC's cache is that of `dvc add data/store`; the size of the database is that of all its tables and indexes, after the
vacuum that a server does by itself within minutes.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

from psycopg import sql

from benchmarks.corpora import Paragraphs, generated_documents, real_data, unpack_documentation, write_beir
from benchmarks.report import Options, Report
from benchmarks.workspaces import fresh_workspace, say
from pipelines import ingest
from pipelines.asking import forgetful
from pipelines.config import Config, load_config
from pipelines.files import Workspace
from pipelines.index import Reader, connect, database_url, open_index
from pipelines.restore import restore

SHARE = 0.01
PARAMETERS = 'index:\n  name: bench\nembed:\n  model: "hash:384"\nchunk:\n  max_tokens: {tokens}\n'
Change = Callable[[int], None]  # makes version n of the sources


def measure(options: Options) -> Report:
    versions = 10 if options.quick else 100
    report = Report("history", f"versions of {SHARE:.0%} changed documents each, hash:384")
    with real_data("docs-prefect", options.data) as collection, fresh_workspace() as workspace:
        config = initialise(workspace, tokens=256)
        unpack_documentation(collection, workspace.root / "source", limit=150 if options.quick else None)
        files = sorted((workspace.root / "source").rglob("*.mdx"))
        _growth(report, f"{len(files)} files", config, workspace, ["source"], _rewritten_files(files))
    with fresh_workspace() as workspace:
        config = initialise(workspace, tokens=136)
        count = 200 if options.quick else 2000
        corpus = workspace.root / "corpus.jsonl"
        change = rewritten_documents(corpus, generated_documents(count, 10))
        label = f"{count} documents of 10 chunks"
        _growth(report, label, config, workspace, [str(corpus)], change)
        for number in range(4, versions + 1):
            change(number)
            ingest.run(config, workspace, sources=[str(corpus)])
            if number % 10 == 0:
                say(f"history: version {number}")
        _compare_with_restored(report, "whole texts", config, workspace, versions)
    with fresh_workspace() as workspace:
        config = initialise(workspace, tokens=136)
        corpus = workspace.root / "corpus.jsonl"
        change = rewritten_documents(corpus, generated_documents(count, 10), whole=False)
        for number in range(versions):
            change(number)
            ingest.run(config, workspace, sources=[str(corpus)])
        _compare_with_restored(report, "paragraphs", config, workspace, versions)
    return report


def initialise(workspace: Workspace, tokens: int) -> Config:
    _call(workspace, "pipelines.cli", "init", ".")
    (workspace.root / "dvc.yaml").unlink()  # its outputs would overlap with the store as a whole
    workspace.params.write_text(PARAMETERS.format(tokens=tokens), "utf-8")
    return load_config(workspace.params)


def _growth(
    report: Report, label: str, config: Config, workspace: Workspace, sources: list[str], change: Change
) -> None:
    """The first version, and three more, each with its share of new documents."""
    sizes = []
    for number in range(4):
        change(number)
        ingest.run(config, workspace, sources=sources, base=workspace.root)
        _call(workspace, "dvc", "add", "-q", "data/store")
        sizes.append((_cache_bytes(workspace), database_bytes(workspace)))
        say(f"history: {label}, version {number + 1}: {sizes[-1]}")
    for what, column, bar in (("DVC cache", 0, "<= 1.2"), ("database", 1, "<= 2")):
        first = sizes[0][column]
        report.add(f"{label}: {what}, first version", first / 1e6, "MB")
        steps = [(after[column] - before[column]) / first for before, after in pairwise(sizes)]
        report.add(f"{label}: {what}, a version of 1 % more", 100 * median(steps), "%", bar)


def _rewritten_files(files: list[Path]) -> Change:
    """Every hundredth file gets the text of another one, its words in another order."""
    texts = [path.read_text("utf-8") for path in files]

    def change(number: int) -> None:
        if number == 0:
            return
        for at in range(number, len(files), round(1 / SHARE)):
            words = texts[at].split(" ")
            files[at].write_text(" ".join([*words[number::2], *words[:number:2]]) + f" {number}", "utf-8")

    return change


def rewritten_documents(corpus: Path, content: Paragraphs, *, whole: bool = True) -> Change:
    """Every hundredth document gets other text: all of it, or one of its paragraphs."""
    present = dict(content)
    names = list(content)

    def change(number: int) -> None:
        if number:
            fresh = generated_documents(round(len(names) * SHARE), 10 if whole else 1, seed=number)
            chosen = names[number % round(1 / SHARE) :: round(1 / SHARE)]
            for name, new in zip(chosen, fresh.values(), strict=False):
                at = number % len(present[name])
                present[name] = new if whole else [*present[name][:at], *new, *present[name][at + 1 :]]
        write_beir(corpus, present)

    return change


def _cache_bytes(workspace: Workspace) -> int:
    return sum(path.stat().st_size for path in (workspace.root / ".dvc" / "cache").rglob("*") if path.is_file())


def database_bytes(workspace: Workspace) -> int:
    with connect(database_url(workspace)) as connection:
        tables = connection.execute(
            "SELECT schemaname, relname FROM pg_stat_user_tables WHERE schemaname ~ '^snapdex'"
        ).fetchall()
        for schema, table in tables:
            connection.execute(sql.SQL("VACUUM {}").format(sql.Identifier(schema, table)))
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables WHERE schemaname ~ '^snapdex'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def _compare_with_restored(report: Report, change: str, config: Config, workspace: Workspace, versions: int) -> None:
    """The newest version is restored into an empty database of the same server; both are searched in turn."""
    url = database_url(workspace)
    config = forgetful(config)
    with connect(url) as connection:
        connection.execute("CREATE DATABASE elsewhere")
        name = connection.info.dbname
    with open_index("bench", workspace=workspace.root, config=config) as grown:
        os.environ["SNAPDEX_DATABASE_URL"] = url.replace(f"/{name}?", "/elsewhere?")
        try:
            began = perf_counter()
            restored = restore(config, workspace)
            report.add(f"{change}: restore of {restored['loaded']:,} chunks", perf_counter() - began, "s", "<= 15")
            with open_index("bench", workspace=workspace.root, config=config) as alone:
                queries = [hit.text[:60] for hit in grown.search("be", k=200, mode="dense").hits]
                for mode in ("dense", "lexical", "hybrid"):
                    first, second = _both(grown, alone, queries, mode)
                    report.add(f"{change}: {mode} search, the version alone", second, "ms")
                    report.add(f"{change}: {mode} search, among {versions}", first, "ms")
                    report.add(f"{change}: {mode} search, ratio", first / second, "", "<= 1.25")
        finally:
            del os.environ["SNAPDEX_DATABASE_URL"]


def _both(first: Reader, second: Reader, queries: list[str], mode: str) -> tuple[float, float]:
    """Median milliseconds of a search, in turn."""
    taken: tuple[list[float], list[float]] = ([], [])
    for query in queries * 3:
        for reader, seconds in zip((first, second), taken, strict=True):
            began = perf_counter()
            reader.search(query, k=10, mode=mode)
            seconds.append(perf_counter() - began)
    return 1000 * median(taken[0]), 1000 * median(taken[1])


def _call(workspace: Workspace, module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=workspace.root, check=True, capture_output=True)
