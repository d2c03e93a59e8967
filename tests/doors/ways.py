"""Every way into an index as one function: from a query to the answer, in the same words."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult

from pipelines import langchain, llamaindex
from pipelines.index import open_index
from pipelines.readers import Readers
from tests.index.state import State
from tests.serve.conftest import serving

PROGRAM = Path(sys.executable).parent / "snapdex"


@dataclass(frozen=True)
class Said:
    """What came through: the version that the answer names for each hit, the chunks in order, and their texts."""

    versions: frozenset[tuple[int, str]]
    chunks: list[str]
    texts: list[str]


class Way(Protocol):
    def __call__(self, query: str, *, k: int, mode: str) -> Said: ...


def said(facts: Sequence[dict[str, Any]], texts: Sequence[str]) -> Said:
    versions = frozenset((each["version"], each["snapshot"]) for each in facts)
    return Said(versions, [each["chunk"] for each in facts], list(texts))


def of_answer(answer: dict[str, Any]) -> Said:
    """An answer in the shape of `snapdex search --json`, which names its version once."""
    hits = answer["hits"]
    about = {"version": answer["version"], "snapshot": answer["snapshot"]}
    return said([hit | about for hit in hits], [hit["text"] for hit in hits])


def environment(state: State) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SNAPDEX_", "PG"))}
    return kept | {"SNAPDEX_HOME": str(state.root), "SNAPDEX_DATABASE_URL": state.url}


@dataclass(frozen=True)
class Tools:
    """The tools of an MCP server: from the name of one and its arguments to the result."""

    client: Client
    portal: BlockingPortal

    def __call__(self, tool: str, **options: Any) -> CallToolResult:
        result = self.portal.call(self.client.call_tool, tool, options)
        assert isinstance(result, CallToolResult)
        return result


@contextmanager
def mcp_client(state: State, *arguments: str, stderr: TextIO = sys.stderr) -> Iterator[Tools]:
    """The client of the SDK, with `snapdex mcp` as its server."""
    command = StdioServerParameters(
        command=str(PROGRAM), args=["mcp", *arguments], env=environment(state), cwd=state.root
    )
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(stdio_client(command, stderr))) as client,
    ):
        yield Tools(client, portal)


@contextmanager
def ways(state: State, call: Tools) -> Iterator[dict[str, Way]]:
    """All of them, open; `call`: the tools of the MCP server."""
    with ExitStack() as stack:
        readers = stack.enter_context(Readers(state.config, state.workspace))
        http = stack.enter_context(serving(state, f"embed.model={state.config.embed.model}"))
        connection = stack.enter_context(state.connect())
        connection.execute("SET ROLE snapdex_reader")

        def cli(query: str, *, k: int, mode: str) -> Said:
            command = [str(PROGRAM), "search", query, "-k", str(k), "--mode", mode, "--json"]
            done = subprocess.run(command, env=environment(state), capture_output=True, text=True, check=True)
            return of_answer(json.loads(done.stdout))

        def python(query: str, *, k: int, mode: str) -> Said:
            with open_index(state.name, workspace=state.root) as index:
                return of_answer(index.search(query, k=k, mode=mode).to_json())

        def shared(query: str, *, k: int, mode: str) -> Said:
            with readers.reader() as reader:
                return of_answer(reader.search(query, k=k, mode=mode).to_json())

        def mcp(query: str, *, k: int, mode: str) -> Said:
            result = call("search", query=query, k=k, mode=mode)
            assert not result.is_error and result.structured_content, result
            return of_answer(result.structured_content)

        def over_http(query: str, *, k: int, mode: str) -> Said:
            answer = http.get("/search", params={"query": query, "k": k, "mode": mode})
            answer.raise_for_status()
            return of_answer(answer.json())

        def with_langchain(query: str, *, k: int, mode: str) -> Said:
            with langchain.SnapdexRetriever(index=state.name, workspace=state.root, k=k, mode=mode) as retriever:
                found = retriever.invoke(query)
            assert [each.id for each in found] == [each.metadata["chunk"] for each in found]
            return said([each.metadata for each in found], [each.page_content for each in found])

        def with_llamaindex(query: str, *, k: int, mode: Any) -> Said:
            with llamaindex.SnapdexRetriever(state.name, workspace=state.root, k=k, mode=mode) as retriever:
                found = retriever.retrieve(query)
            assert [each.node_id for each in found] == [each.metadata["chunk"] for each in found]
            return said([each.metadata for each in found], [each.text for each in found])

        def sql(query: str, *, k: int, mode: str) -> Said:
            function, asked = {"dense": ("search", str(state.vector(query))), "lexical": ("search_lexical", query)}[
                mode
            ]
            cursor = connection.execute(
                f"SELECT version, snapshot, chunk, text FROM snapdex.{function}(%s, %s, %s) ORDER BY rank".encode(),
                [state.name, asked, k],
            )
            rows = cursor.fetchall()
            return said(
                [{"version": row[0], "snapshot": row[1], "chunk": row[2]} for row in rows], [row[3] for row in rows]
            )

        yield {
            "cli": cli,
            "python": python,
            "readers": shared,
            "http": over_http,
            "mcp": mcp,
            "langchain": with_langchain,
            "llamaindex": with_llamaindex,
            "sql": sql,
        }
