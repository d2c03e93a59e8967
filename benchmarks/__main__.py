"""`python -m benchmarks [NAME...]`: measure, print a table each, keep the figures."""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from benchmarks.report import Options, Report
from benchmarks.workspaces import say, use_own_servers
from pipelines.errors import SnapdexError

NAMES = (
    "cold",
    "noop",
    "pointer",
    "serve",
    "scale",
    "recall",
    "filters",
    "history",
    "aborted",
    "abstain",
    "filings",
    "ask",
    "scifact",
    "encode",
    "compare",
    "behaviour",
    "notes",
    "finetune",
    "rerank",
    "gate",
)  # the quick ones first


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Snapdex; exit 7 if a figure misses its bar."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(NAMES)}")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="real data, unpacked; default: SNAPDEX_TEST_DATA's tool"
    )
    parser.add_argument("--quick", action="store_true", help="smaller inputs and fewer repetitions; bars may not hold")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep costly workspaces here, and use what is there")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    use_own_servers()
    options = Options(given.data, given.quick, given.keep)
    status = 0
    for name in given.names or NAMES:
        say(f"{name}: measuring")
        measure: Callable[[Options], Report] = import_module(f"benchmarks.{name}").measure
        try:
            report = measure(options)
        except SnapdexError as error:
            sys.stderr.write(f"{name}: {error}\nhint: {error.hint}\n")
            status = error.exit_code
            continue
        sys.stdout.write(report.table() + "\n")
        sys.stdout.flush()
        command = ["python", "-m", "benchmarks", name, *(["--quick"] if given.quick else [])]
        report.append(command)
        if any(figure.met is False for figure in report.figures):
            status = status or 7
    return status


if __name__ == "__main__":
    sys.exit(main())
