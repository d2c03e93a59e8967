"""`python -m pipelines.collect`: collect documents, print the report as JSON."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from pipelines.collect import run
from pipelines.config import load_config
from pipelines.errors import SnapdexError
from pipelines.files import Workspace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.collect", description=__doc__)
    parser.add_argument("sources", metavar="SOURCE", nargs="*", help="directory, file, glob, git+..., or fsspec URL")
    parser.add_argument("--workspace", type=Path, default=Path(), metavar="DIR", help="default: here")
    parser.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--allow-mass-delete", action="store_true", help="remove documents however many they are")
    parser.add_argument("--recompute", action="store_true", help="read all again where the store is gone")
    given = parser.parse_args()
    workspace = Workspace(given.workspace.resolve())
    try:
        config = load_config(workspace.params, given.overrides)
        report = run(
            config,
            workspace,
            sources=given.sources or None,
            base=Path.cwd() if given.sources else None,
            allow_mass_delete=given.allow_mass_delete,
            recompute=given.recompute,
        )
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(asdict(report), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
