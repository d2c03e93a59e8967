"""What docs/doors.md shows runs."""

import json
import re
from pathlib import Path

import pytest
from mcp.types import CallToolResult

from tests.doors.ways import PROGRAM, Tools, mcp_client
from tests.index.state import State

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "doors.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.splitlines()[-1].strip()[:30])
def test_its_python_runs(handbook: State, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "docs/doors.md", "exec"), {})
    printed = capsys.readouterr().out
    assert any(document in printed for document in handbook.documents("active"))


def test_the_configuration_of_a_client_starts_a_server(handbook: State) -> None:
    [block] = blocks("json")
    [(name, server)] = json.loads(block)["mcpServers"].items()
    assert (name, server["command"]) == ("handbook", PROGRAM.name)
    arguments = [str(handbook.root) if word.startswith("/srv/") else word for word in server["args"][1:]]
    with mcp_client(handbook, *arguments) as client:
        result = client("search", query="TM-5013")
    assert isinstance(result, CallToolResult) and (result.structured_content or {})["index"] == "handbook"


def test_its_tables_name_what_a_tool_returns(client: Tools) -> None:
    answer = client("search", query="TM-5013", k=1).structured_content or {}
    history = client("versions").structured_content or {}
    for key in (*answer, *answer["hits"][0], *history["versions"][0]):
        assert f"`{key}`" in PAGE, key
