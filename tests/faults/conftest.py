"""What the fault tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.faults.bounds import Few
from tests.index.state import State


@pytest.fixture
def clone(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., State]]:
    """`clone(state)`: its workspace and database once more, which `SNAPDEX_DATABASE_URL` then names; `empty=True`: with
    a database that has no index."""
    made, few = 0, Few()

    def copy(state: State, *, empty: bool = False) -> State:
        nonlocal made
        made += 1
        url = few.enter(databases() if empty else databases(like=state.url))
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        return state.copy(tmp_path / f"clone-{made}", url)

    yield copy
    few.close()
