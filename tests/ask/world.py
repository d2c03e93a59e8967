"""Three documents, and who answers from them."""

from typing import Any

from pipelines.ask import Answer, Answerer
from pipelines.index import open_index
from tests.http_server import Server
from tests.index.state import State

DOCUMENTS = {
    "standby.md": "# Standby\n\nA standby may lag by 16 MiB. Patroni refuses to promote one that is further behind.\n",
    "refunds.md": "# Refunds\n\nRefunds above 50 euros need a second person. Support pays the rest at once.\n",
    "printer.md": "# Labels\n\nPrintbridge listens on local port 17845. It is started by the shipper.\n",
}
QUESTION = "How much may a standby lag?"


def answer(state: State, question: str = QUESTION, **how: Any) -> Answer:
    with (
        open_index(workspace=state.root, config=state.config) as reader,
        Answerer(state.config, state.workspace) as answerer,
    ):
        return answerer.ask(reader, question, **how)


def with_model(state: State, chat: Server, *more: str) -> State:
    return state.with_settings("generate.model=openai:small", f"generate.endpoint={chat.url}", *more)


def chunk_texts(state: State) -> dict[str, str]:
    with state.connect() as connection:
        return dict(connection.execute("SELECT chunk, text FROM snapdex.active_chunks").fetchall())
