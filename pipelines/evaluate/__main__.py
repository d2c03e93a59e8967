"""`python -m pipelines.evaluate`: measure the version that manifest `snapshot` names, print the metrics as JSON."""

import argparse
import json
import sys
from pathlib import Path

from pipelines.config import load_config
from pipelines.errors import SnapdexError
from pipelines.files import Workspace
from pipelines.quality import measure_built


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.evaluate", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path(), metavar="DIR", help="default: here")
    parser.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", dest="overrides")
    given = parser.parse_args()
    workspace = Workspace(given.workspace.resolve())
    try:
        metrics = measure_built(load_config(workspace.params, given.overrides), workspace)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(metrics, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
