"""An index, and a model at a server that reads what it is shown."""

import re
from collections.abc import Iterator

import pytest

from tests.ask.world import DOCUMENTS
from tests.http_server import Server, chatting
from tests.index.state import State


@pytest.fixture
def handbook(state: State) -> State:
    state.write(DOCUMENTS)
    state.run()
    return state


@pytest.fixture
def chat() -> Iterator[Server]:
    """A model that says the first sentence of the source about lag, with its marker."""

    def speak(said: str) -> str:
        found = re.search(r'<source id="(\d+)"[^>]*>\n(?:Standby\n)?[^<]*?(A standby may lag by \d+ MiB)', said)
        return f"{found[2]} [{found[1]}]. It was so in Rome." if found else "I do not know."

    yield from chatting(speak)
