"""How the threads of PyTorch wait."""

import os


def let_idle_threads_sleep() -> None:
    """To be called before PyTorch is first imported, which reads it once.

    Idle OpenMP threads would spin for milliseconds and starve each other on a machine that has other work: two threads
    did 8 texts a second instead of 22.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
