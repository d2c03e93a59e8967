"""python -m pipelines.examples --model NAME --kind sft|dpo --workspace DIR [--set section.key=value]"""

import argparse
import json
import sys
from pathlib import Path

from pipelines.config import load_config
from pipelines.errors import SnapdexError
from pipelines.examples import stage
from pipelines.files import Workspace


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.examples",
        description="Check and divide the examples that a model is fine-tuned with.",
    )
    parser.add_argument("--model", required=True, metavar="NAME")
    parser.add_argument("--kind", required=True, choices=("sft", "dpo"))
    parser.add_argument("--workspace", type=Path, default=Path(), metavar="DIR")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one parameter")
    options = parser.parse_args()
    try:
        workspace = Workspace(options.workspace.resolve())
        report = stage.run(load_config(workspace.params, options.set), workspace, options.model, options.kind)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(json.dumps(report.to_json(), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
