"""python -m pipelines.embed --workspace DIR [--set section.key=value] [--recompute]"""

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path

from pipelines import embed
from pipelines.config import load_config
from pipelines.errors import SnapdexError
from pipelines.files import Workspace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.embed", description="Embed chunks that have no vector.")
    parser.add_argument("--workspace", type=Path, default=Path(), metavar="DIR")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one parameter")
    parser.add_argument("--recompute", action="store_true", help="make vectors again that the store has lost")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what is finished is written first
    try:
        workspace = Workspace(options.workspace)
        report = embed.run(load_config(workspace.params, options.set), workspace, recompute=options.recompute)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(json.dumps(dataclasses.asdict(report)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
