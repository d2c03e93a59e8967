"""`python -m pipelines.chunk`: cut documents into chunks, print the report as JSON."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from pipelines.chunk import run
from pipelines.config import load_config
from pipelines.errors import SnapdexError
from pipelines.files import Workspace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.chunk", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path(), metavar="DIR", help="default: here")
    parser.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument(
        "--recompute", action="store_true", help="make again what the manifests name and the store lacks"
    )
    given = parser.parse_args()
    workspace = Workspace(given.workspace.resolve())
    try:
        config = load_config(workspace.params, given.overrides)
        report = run(config, workspace, recompute=given.recompute)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(asdict(report), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
