"""How long 2,000 documents of 10 chunks take: from nothing, with nothing to do, and after an edit.

Hashed words stand in for a model (`hash:384`), so this is the cost of everything around the encoder. Each document is
ten sentences of 70 to 100 words; with `chunk.max_tokens` 136 no two of them fit into a chunk and none is divided.
"""

from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.corpora import Paragraphs, generated_documents, write_beir
from benchmarks.report import Options, Report
from benchmarks.workspaces import config_of, fresh_workspace, say
from pipelines import ingest

PARAGRAPHS = 10
EDITED = 20
STAGES = ("collect", "parse", "chunk", "embed", "build", "publish")


def measure(options: Options) -> Report:
    documents, repetitions = (200, 1) if options.quick else (2000, 3)
    content = generated_documents(documents, PARAGRAPHS)
    taken: dict[str, list[float]] = defaultdict(list)
    embedded = 0
    for repetition in range(repetitions):
        for name, run in _three_runs(content).items():
            say(f"cold: {repetition + 1}/{repetitions} {name}: {run['seconds']}")
            for stage, seconds in run["seconds"].items():
                taken[f"{name} {stage}"].append(seconds)
            taken[f"{name} rest"].append(run["seconds"]["total"] - sum(run["seconds"][stage] for stage in STAGES))
            embedded = run["embedded"]
    report = Report(
        "cold",
        f"{documents:,} documents x {PARAGRAPHS} chunks of 70-100 words, hash:384, ingest.run in process,"
        f" the server running, median of {repetitions}",
    )
    for stage in (*STAGES, "rest", "total"):
        report.add(f"cold {stage}", median(taken[f"cold {stage}"]), "s", "<= 6" if stage == "total" else "")
    report.add("nothing changed total", median(taken["nothing changed total"]), "s")
    for stage in (*STAGES, "rest", "total"):
        report.add(f"edited {stage}", median(taken[f"edited {stage}"]), "s")
    report.add(f"embedded after editing a paragraph of {EDITED} documents", embedded, "", f"== {EDITED}")
    return report


def _three_runs(content: Paragraphs) -> dict[str, dict[str, Any]]:
    """The reports of `ingest.run` on an empty workspace, once more, and after the edit."""
    config = config_of(chunk={"max_tokens": 136}, embed={"model": "hash:384"})
    with fresh_workspace() as workspace:
        corpus = workspace.root / "corpus.jsonl"

        def run(documents: Paragraphs | None = None) -> dict[str, Any]:
            if documents:
                write_beir(corpus, documents)
            return ingest.run(config, workspace, sources=[str(corpus)], base=Path("/"))

        cold = run(content)
        assert cold["chunks"]["total"] == len(content) * PARAGRAPHS, cold["chunks"]
        again = run()
        assert not again["published"]
        return {"cold": cold, "nothing changed": again, "edited": run(_edited(content))}


def _edited(content: Paragraphs) -> Paragraphs:
    """One word more in one paragraph of some documents, all over the corpus."""
    changed = dict(content)
    for name in list(content)[:: len(content) // EDITED][:EDITED]:
        paragraphs = list(content[name])
        paragraphs[4] = "Changed " + paragraphs[4]
        changed[name] = paragraphs
    return changed
