"""`python -m pipelines.index`: build the version that the manifests describe, print the report as JSON."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from pipelines.config import load_config
from pipelines.errors import SnapdexError
from pipelines.files import Workspace
from pipelines.index import build


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.index", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path(), metavar="DIR", help="default: here")
    parser.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", dest="overrides")
    given = parser.parse_args()
    workspace = Workspace(given.workspace.resolve())
    try:
        config = load_config(workspace.params, given.overrides)
        report = build(config, workspace)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(asdict(report), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
