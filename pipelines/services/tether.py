"""python -m pipelines.services.tether PARENT PROGRAM [ARGUMENT...]: become PROGRAM, which is killed when PARENT dies.

PARENT is the process that starts this one. A system without prctl has the sentinel only.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(f"process {parent} died before {command[0]} was started")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
