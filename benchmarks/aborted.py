"""Whether builds that were given up leave anything: 100 of them, each killed before it sealed, then `snapdex prune`.

Each would have replaced the text of one per cent of the documents. Storage is the database's tables and indexes, and
`data/store`.
"""

import os
import subprocess
import sys

from benchmarks.corpora import generated_documents, write_beir
from benchmarks.history import database_bytes, initialise, rewritten_documents
from benchmarks.report import Options, Report
from benchmarks.workspaces import fresh_workspace, say
from pipelines import ingest
from pipelines.failpoints import EXIT_CODE
from pipelines.files import Workspace
from pipelines.prune import prune


def measure(options: Options) -> Report:
    documents, builds = (200, 10) if options.quick else (2000, 100)
    with fresh_workspace() as workspace:
        config = initialise(workspace, tokens=136)
        corpus = workspace.root / "corpus.jsonl"
        content = generated_documents(documents, 10)
        write_beir(corpus, content)
        ingest.run(config, workspace, sources=[str(corpus)])
        before = database_bytes(workspace), _store_bytes(workspace)
        change = rewritten_documents(corpus, content)
        command = [sys.executable, "-m", "pipelines.cli", "run", "-q", str(corpus)]
        for number in range(1, builds + 1):
            change(number)
            done = subprocess.run(
                command,
                cwd=workspace.root,
                env={**os.environ, "SNAPDEX_FAILPOINT": "build.weights_loaded"},
                check=False,
                capture_output=True,
            )
            assert done.returncode == EXIT_CODE, done.stderr
            if number % 10 == 0:
                say(f"aborted: {number} builds")
        most = database_bytes(workspace), _store_bytes(workspace)
        write_beir(corpus, content)
        ingest.run(config, workspace, sources=[str(corpus)])  # manifests are those of the version again
        prune(config, workspace)
        after = database_bytes(workspace), _store_bytes(workspace)
    report = Report("aborted", f"{builds} builds of 1 % of {documents:,} documents, killed before sealing, then pruned")
    for at, what in enumerate(("database", "data/store")):
        report.add(f"{what} before", before[at] / 1e6, "MB")
        report.add(f"{what} with what was left behind", most[at] / 1e6, "MB")
        report.add(f"{what} after pruning", after[at] / 1e6, "MB")
    report.add("all storage, after against before", 100 * (sum(after) / sum(before) - 1), "%", "<= 1")
    return report


def _store_bytes(workspace: Workspace) -> int:
    place = workspace.root / "data" / "store"
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
