"""python -m pipelines.services --home DIR: the supervisor, until SIGTERM. `snapdex up` starts it."""

import argparse
import sys
from pathlib import Path

from pipelines.errors import SnapdexError
from pipelines.services.control import supervise


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.services", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, metavar="DIR", help="the workspace")
    try:
        supervise(parser.parse_args().home.resolve())
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
