"""The command `snapdex run` when nothing has changed, as a scheduler starts it: the wall time of the whole process.

The workspace is one of the default model, but its vectors are of hashed words, so that making it takes seconds: a run
that has nothing to embed loads no model.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpora import real_data, unpack_documentation
from benchmarks.report import Options, Report
from benchmarks.workspaces import fresh_workspace, say
from pipelines import embed, index, ingest
from pipelines.config import load_config
from pipelines.embed.hashing import HashedWords
from pipelines.files import Workspace

PARAMETERS = "index:\n  name: bench\ncollect:\n  sources:\n    - source\nembed:\n  model: minilm\n"
REPETITIONS = 7


class _Stand(HashedWords):
    """Hashed words in the place of the model."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.vectors(texts)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.vectors(texts)


def measure(options: Options) -> Report:
    with real_data("docs-prefect", options.data) as collection, fresh_workspace() as workspace:
        files = unpack_documentation(collection, workspace.root / "source", limit=150 if options.quick else None)
        workspace.params.write_text(PARAMETERS, "utf-8")
        chunks = _publish_with_stand_in(workspace)
        say(f"noop: {files:,} files, {chunks:,} chunks are published")
        _run(workspace.root)
        taken = [_run(workspace.root) for _ in range(REPETITIONS)]
    report = Report(
        "noop", f"`snapdex run` on {files:,} unchanged .mdx files ({chunks:,} chunks), median of {REPETITIONS}"
    )
    report.add("wall", median(seconds for seconds, _ in taken), "s", "< 3")
    report.add("fastest", min(seconds for seconds, _ in taken), "s")
    report.add("slowest", max(seconds for seconds, _ in taken), "s")
    report.add("of it in the job", median(inside for _, inside in taken), "s")
    return report


def _publish_with_stand_in(workspace: Workspace) -> int:
    """The stages of `ingest.run`, with an encoder given to the one that takes it; returns the number of chunks."""
    config = load_config(workspace.params)
    prepared = ingest.prepare(config, workspace)
    embedded = embed.run(config, workspace, encoder=_Stand(384))
    report = ingest.report_of(prepared, embedded)
    built = index.build(config, workspace, report=report, quarantined=prepared.quarantined)
    done = ingest.finish(config, workspace, report, built, publish=True, reason=None, began=time.monotonic())
    assert done["published"]
    return int(done["chunks"]["total"])


def _run(home: Path) -> tuple[float, float]:
    """Seconds of the process, and those that its report counts."""
    command = [sys.executable, "-m", "pipelines.cli", "run", "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=home, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    report = json.loads(done.stdout)
    assert not report["published"] and report["embedded"] == 0, report
    return seconds, float(report["seconds"]["total"])
