"""The ingest flow: bring an index up to date with its sources and publish the result.

python -m flows.ingest [SOURCE...] [--home DIR]
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows import reporting, scale
from flows.retries import stage, task_of
from pipelines import chunk, collect, embed, index, operate, parse, record
from pipelines import ingest as job
from pipelines.errors import ConflictError, SnapdexError

pin_model = task_of("pin", job.with_pinned_model)
collect_documents = stage("collect", collect.run)
parse_documents = stage("parse", parse.run)
chunk_documents = stage("chunk", chunk.run)
embed_chunks = stage("embed", embed.run)
forecast_changes = stage("forecast", job.forecast_of)
build_version = stage("build", index.build)
publish_version = stage("publish", job.finish)
begin_record = stage("begin-record", record.begin_record)
complete_record = stage("record", job.recorded)


@flow(name="ingest", flow_run_name=reporting.run_name, log_prints=False, on_failure=[reporting.failed])
def ingest(
    home: str = ".",
    sources: list[str] | None = None,
    overrides: list[str] | None = None,
    publish: bool = True,
    allow_mass_delete: bool = False,
    record: bool = False,
    index: str = "",
    wait_seconds: float = 600,
) -> dict[str, Any] | State[Any]:
    """Collect, parse, chunk, embed, build, gate, publish, record; returns the report of `snapdex run --json`.

    Args:
        home: Directory of the workspace, the one with params.yaml.
        sources: Directories, globs, git+URL@rev or fsspec URLs; empty for collect.sources of params.yaml.
        overrides: Parameters as section.key=value, as after `snapdex --set`.
        publish: Make the new version the active one if it passes its gate.
        allow_mass_delete: Go on although many documents are gone from the sources.
        record: Record the version in DVC and git, too.
        index: Name of the index; empty for index.name of params.yaml.
        wait_seconds: How long to wait for another run in the workspace before giving up without a failure.
    """
    began = time.monotonic()
    config, workspace = reporting.opened(home, index, overrides)
    with reporting.turn(workspace, wait_seconds) as ours:
        if not ours:
            return reporting.skipped(f"another run works in {workspace.root}, also after {wait_seconds:g} seconds")
        config = pin_model(config)
        place = begin_record(config, workspace) if record else None
        collected = collect_documents(config, workspace, sources=sources, allow_mass_delete=allow_mass_delete)
        with scale.runner_of(config.flow) as runner:
            parsed = parse_documents(config, workspace, done=scale.parse_batches(config, workspace, runner))
            chunked = chunk_documents(config, workspace)
            forecast = forecast_changes(config, workspace, allow_mass_delete=allow_mass_delete)
            embedded = embed_chunks(config, workspace, done=scale.embed_batches(config, workspace, runner))
        prepared = job.Prepared(collected, parsed, chunked, forecast)
        counts = job.report_of(prepared, embedded)
        before = operate.quarantined(config, workspace)
        built = build_version(config, workspace, epoch=forecast.epoch, report=counts, quarantined=prepared.quarantined)
        with reporting.rejections(config, workspace, built):
            report = publish_version(config, workspace, counts, built, publish=publish, reason=None, began=began)
        report = complete_record(config, place, report) if place else report
    reporting.ingested(config, workspace, report, built, forecast.documents, before)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.ingest", description=__doc__)
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="default: collect.sources of params.yaml")
    parser.add_argument("--home", default=os.environ.get("SNAPDEX_HOME", "."), metavar="DIR", help="the workspace")
    parser.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--record", action="store_true", help="DVC commit and push, git commit, tag and push")
    given = parser.parse_args()
    try:
        sources = [str(Path(each).resolve()) if Path(each).exists() else each for each in given.sources]
        report = ingest(given.home, sources or None, given.overrides, record=given.record, wait_seconds=0)
        if report is None:
            raise ConflictError("another run works in this workspace", hint="wait for it to end")
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
