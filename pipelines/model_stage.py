"""The command line of the stages of fine-tuned models: python -m pipelines.STAGE --model NAME --workspace DIR"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipelines.config import load_config
from pipelines.errors import SnapdexError
from pipelines.files import Workspace


class Report(Protocol):
    def to_json(self) -> dict[str, Any]: ...


def main(stage: str, run: Callable[..., Report], *, does: str, kinds: Sequence[str] = ()) -> int:
    """Run a stage for one model and print its report; returns the exit code.

    run: called with parameters, workspace and name, and where there are `kinds` with the one that was chosen; does:
    what the help says about it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m pipelines.{stage}", description=does)
    parser.add_argument("--model", required=True, metavar="NAME")
    if kinds:
        parser.add_argument("--kind", required=True, choices=kinds)
    parser.add_argument("--workspace", type=Path, default=Path(), metavar="DIR")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one parameter")
    options = parser.parse_args()
    try:
        workspace = Workspace(options.workspace.resolve())
        chosen = [options.kind] if kinds else []
        report = run(load_config(workspace.params, options.set), workspace, options.model, *chosen)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    except KeyboardInterrupt as error:
        sys.stderr.write(f"error: {error or 'interrupted'}\n")
        return 130
    sys.stdout.write(json.dumps(report.to_json(), ensure_ascii=False) + "\n")
    return 0
