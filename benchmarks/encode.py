"""How much a whole run on real documentation takes beside the encoding alone.

The whole run is `ingest.run` on an empty workspace with the default model. The encoding alone reads the texts of the
same chunks back from the store and encodes them in the order and in the steps of the run. Both are done in turn, each
in a process of its own, so both load the library and the model; both clocks start after the imports of Snapdex.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TypeVar

from benchmarks.corpora import real_data, unpack_documentation
from benchmarks.report import Options, Report
from benchmarks.workspaces import config_of, fresh_workspace, say
from pipelines import ingest
from pipelines.embed import STEP_CHUNKS, load_encoder
from pipelines.embed.work import groups, plan_work
from pipelines.files import Store, Workspace
from pipelines.models import resolve_model

CONFIG = config_of(collect={"sources": ["source"]}, embed={"model": "minilm"})
QUICK_FILES = 150

T = TypeVar("T")


def measure(options: Options) -> Report:
    rounds = 2 if options.quick else 1  # a whole turn takes about a quarter of an hour on two cores
    wholes: list[dict[str, float]] = []
    alones: list[tuple[float, float]] = []
    with real_data("docs-prefect", options.data) as collection:
        for turn in range(rounds):
            with fresh_workspace() as workspace:
                files = unpack_documentation(
                    collection, workspace.root / "source", limit=QUICK_FILES if options.quick else None
                )
                wholes.append(_elsewhere(_whole_run, workspace.root))
                loading, encoding, chunks = _elsewhere(_encoding_alone, workspace.root)
            alones.append((loading, encoding))
            say(f"encode: {turn + 1}/{rounds}: {wholes[-1]['total']:.1f} s, {sum(alones[-1]):.1f} s alone")
    report = Report("encode", f"{files:,} .mdx files, {chunks:,} distinct chunks, minilm, {rounds} rounds in turn")
    for stage in ("collect", "parse", "chunk", "embed", "build", "publish", "total"):
        report.add(f"whole run {stage}", median(whole[stage] for whole in wholes), "s")
    loading, encoding = (median(each[part] for each in alones) for part in (0, 1))
    total = median(whole["total"] for whole in wholes)
    report.add("alone: loading library and model", loading, "s")
    report.add("alone: encoding", encoding, "s")
    report.add("encoding alone", chunks / encoding, "chunks/s")
    report.add("whole run / loading and encoding alone", total / (loading + encoding), "", "<= 1.2")
    report.add("whole run / encoding alone, the model loaded", total / encoding)
    report.add("whole run / its own embed stage", median(whole["total"] / whole["embed"] for whole in wholes))
    return report


def _elsewhere(task: Callable[[Path], T], root: Path) -> T:
    """The task's result, from a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(task, root).result()


def _whole_run(root: Path) -> dict[str, float]:
    seconds: dict[str, float] = ingest.run(CONFIG, Workspace(root), base=root)["seconds"]
    return seconds


def _encoding_alone(root: Path) -> tuple[float, float, int]:
    """Seconds of loading and of encoding, and the number of chunks."""
    workspace = Workspace(root)
    model = resolve_model(CONFIG.embed, workspace)
    work = plan_work(CONFIG, workspace, model, recompute=True)
    work = replace(work, vectors=Store(root / "nothing"))  # where no chunk has a vector, all of them are work again
    texts = [[chunk.embedded_text for _, chunk in group.missing] for group in groups(work, set())]
    began = time.perf_counter()
    encoder = load_encoder(model, CONFIG.embed)
    loaded = time.perf_counter()
    for group in texts:
        for start in range(0, len(group), STEP_CHUNKS):
            encoder.encode(group[start : start + STEP_CHUNKS])
    return loaded - began, time.perf_counter() - loaded, sum(map(len, texts))
