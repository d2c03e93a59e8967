"""python -m pipelines.services.sentinel MARKER: when whoever is at the other end of stdin dies, end what it started.

A supervisor that ends in order writes a byte before. One that is killed cannot, and the kernel only kills its children
for it: servers have processes of their own, and so have flow runs.
"""

import os
import sys

from pipelines.services.processes import end


def main(marker: str) -> None:
    if not os.read(0, 1):
        end(marker, grace_seconds=0)


if __name__ == "__main__":
    main(sys.argv[1])
