"""The command line of the stages of fine-tuned models: python -m pipelines.STAGE --model NAME --workspace DIR"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pipelines.config import Config, load_config
from pipelines.errors import SnapdexError
from pipelines.files import Workspace


class Report(Protocol):
    def to_json(self) -> dict[str, Any]: ...


def main(stage: str, run: Callable[[Config, Workspace, str], Report], *, does: str) -> int:
    """Run a stage for one model and print its report; returns the exit code. `does`: what the help says about it."""
    parser = argparse.ArgumentParser(prog=f"python -m pipelines.{stage}", description=does)
    parser.add_argument("--model", required=True, metavar="NAME")
    parser.add_argument("--workspace", type=Path, default=Path(), metavar="DIR")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one parameter")
    options = parser.parse_args()
    try:
        workspace = Workspace(options.workspace.resolve())
        report = run(load_config(workspace.params, options.set), workspace, options.model)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(json.dumps(report.to_json(), ensure_ascii=False) + "\n")
    return 0
