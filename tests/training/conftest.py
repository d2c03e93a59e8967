"""What the tests of training share."""

from pathlib import Path

import pytest

from tests.index.state import State


@pytest.fixture
def state(tmp_path: Path, database: str) -> State:
    """A workspace without documents and a database without an index."""
    return State.make(tmp_path / "workspace", database)
