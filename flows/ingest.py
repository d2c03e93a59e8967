"""The ingest flow: bring an index up to date with its sources and publish the result.

python -m flows.ingest [SOURCE...] [--home DIR]
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Task, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import scale
from flows.retries import RETRIES
from pipelines import chunk, collect, embed, index, parse, record
from pipelines import ingest as job
from pipelines.config import Config, load_config
from pipelines.errors import SnapdexError
from pipelines.files import Workspace

P = ParamSpec("P")
R = TypeVar("R")


def stage(name: str, function: Callable[P, R]) -> Task[P, R]:
    """The function as a task. Results go on in memory: what must outlive a run is in the store and the database."""
    return task(name=name, cache_policy=NO_CACHE, persist_result=False, **RETRIES)(function)


collect_documents = stage("collect", collect.run)
parse_documents = stage("parse", parse.run)
chunk_documents = stage("chunk", chunk.run)
embed_chunks = stage("embed", embed.run)
forecast_changes = stage("forecast", job.forecast_of)
build_version = stage("build", index.build)
publish_version = stage("publish", job.finish)
begin_record = stage("begin-record", record.begin_record)
complete_record = stage("record", job.recorded)


@flow(name="ingest", log_prints=False)
def ingest(
    home: str = ".",
    sources: list[str] | None = None,
    overrides: list[str] | None = None,
    publish: bool = True,
    allow_mass_delete: bool = False,
    record: bool = False,
) -> dict[str, Any]:
    """Collect, parse, chunk, embed, build, gate, publish, record; returns the report of `snapdex run --json`."""
    began = time.monotonic()
    workspace = Workspace(Path(home).resolve())
    config = load_config(workspace.params, overrides)
    with job.locked(workspace):
        place = begin_record(config, workspace) if record else None
        collected = collect_documents(config, workspace, sources=sources, allow_mass_delete=allow_mass_delete)
        with scale.runner_of(config.flow) as runner:
            parsed = parse_documents(config, workspace, done=scale.parse_batches(config, workspace, runner))
            chunked = chunk_documents(config, workspace)
            forecast = forecast_changes(config, workspace, allow_mass_delete=allow_mass_delete)
            embedded = embed_chunks(config, workspace, done=scale.embed_batches(config, workspace, runner))
        prepared = job.Prepared(collected, parsed, chunked, forecast)
        counts = job.report_of(prepared, embedded)
        built = build_version(config, workspace, epoch=forecast.epoch, report=counts, quarantined=prepared.quarantined)
        report = publish_version(config, workspace, counts, built, publish=publish, reason=None, began=began)
        report = complete_record(config, place, report) if place else report
    get_run_logger().info("%s v%s published=%s", report["index"], report["version"], report["published"])
    key = "ingest-" + config.index.name.replace(".", "-").replace("_", "-")
    create_markdown_artifact(summary(config, report), key=key)
    return report


def summary(config: Config, report: dict[str, Any]) -> str:
    """The report as a page that people read in the Prefect UI."""
    documents = " · ".join(f"{count:,} {name}" for name, count in report["documents"].items() if count)
    chunks = report["chunks"]
    failed = "".join(f"| {q['document']} | {q['reason']} | {q['detail']} |\n" for q in report["quarantined"])
    return (
        f"# {report['index']} v{report['version']}\n\n"
        f"snapshot `{report['snapshot']}`, {'published' if report['published'] else 'not published'}\n\n"
        f"**documents** {documents}\n\n"
        f"**chunks** {chunks['total']:,} (+{chunks['added']:,} -{chunks['removed']:,})\n\n"
        f"**embedded** {report['embedded']:,}\n\n"
        f"**seconds** {report['seconds']['total']} with {config.embed.model}\n"
        + (f"\n| quarantined | reason | detail |\n|---|---|---|\n{failed}" if failed else "")
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.ingest", description=__doc__)
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="default: collect.sources of params.yaml")
    parser.add_argument("--home", default=os.environ.get("SNAPDEX_HOME", "."), metavar="DIR", help="the workspace")
    parser.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--record", action="store_true", help="DVC commit and push, git commit, tag and push")
    given = parser.parse_args()
    try:
        sources = [str(Path(each).resolve()) if Path(each).exists() else each for each in given.sources]
        report = ingest(given.home, sources or None, given.overrides, record=given.record)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
