"""python -m pipelines.parse --workspace DIR: exit status 0 done, 2 configuration, 3 input, 4 damaged data."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from pipelines.config import load_config
from pipelines.errors import SnapdexError
from pipelines.files import Workspace
from pipelines.parse import run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.parse", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--recompute", action="store_true", help="parse again what the store should hold but does not")
    options = parser.parse_args(arguments)
    workspace = Workspace(options.workspace)
    try:
        report = run(load_config(workspace.params, options.overrides), workspace, recompute=options.recompute)
    except SnapdexError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
