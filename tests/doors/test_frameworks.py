"""The retrievers of LangChain and LlamaIndex, as their programs use them."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest
from llama_index.core.schema import MetadataMode, QueryBundle

from pipelines import langchain, llamaindex
from pipelines.errors import ConfigError, NotFoundError, ServiceUnavailable
from pipelines.index.catalog import set_calibration
from tests.doors.ways import environment
from tests.index.state import State

QUERY = "what does TM-5013 mean?"
PROJECT = Path(__file__).resolve().parents[2]
FACTS = {"index", "version", "snapshot", "document", "section", "page", "chunk", "start", "end", "score"}


class Found(Protocol):
    """What both frameworks make of a hit, as (text, metadata)."""

    def __call__(self, query: str, **options: Any) -> list[tuple[str, dict[str, Any]]]: ...


def with_langchain(query: str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    with langchain.SnapdexRetriever(**options) as retriever:
        return [(each.page_content, each.metadata) for each in retriever.invoke(query)]


def with_llamaindex(query: str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    with llamaindex.SnapdexRetriever(**options) as retriever:
        return [(each.text, each.metadata) for each in retriever.retrieve(query)]


both = pytest.mark.parametrize("retrieve", [with_langchain, with_llamaindex])


@both
def test_options_and_facts(handbook: State, retrieve: Found) -> None:
    """`SNAPDEX_HOME` says which workspace."""
    found = retrieve(QUERY, index="handbook", k=2, mode="lexical", at="v1", filter={"document": "runbooks/*"})
    assert 0 < len(found) <= 2
    for text, facts in found:
        assert facts.keys() >= FACTS
        assert (facts["index"], facts["version"]) == ("handbook", 1)
        assert facts["snapshot"] == handbook.version(1).snapshot
        assert handbook.path(facts["document"]).read_text("utf-8")[facts["start"] : facts["end"]] == text
    assert found[0][1]["document"] == "runbooks/nightly-batch-jobs.txt"


@both
def test_an_answer_that_abstains_has_no_documents(book: State, retrieve: Found) -> None:
    book.write({"gate.md": "# Gate\n\nThe gate opens at six.\n"}).run()
    assert len(retrieve("gate")) == 1
    assert retrieve("zzyzx", mode="lexical", abstain=False) == []
    with book.connect() as connection:
        learned = {"threshold": 100.0, "similarity_spread": 1.0, "coverage_spread": 1.0}
        set_calibration(connection, book.index(), 1, learned)
    assert retrieve("gate") == []
    assert len(retrieve("gate", abstain=False)) == 1


@both
def test_errors_are_ours(handbook: State, tmp_path: Path, retrieve: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match="no version v9"):
        retrieve(QUERY, at="v9")
    with pytest.raises(NotFoundError, match="no index elsewhere"):
        retrieve(QUERY, index="elsewhere")
    monkeypatch.setenv("SNAPDEX_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")
    with pytest.raises(ServiceUnavailable):
        retrieve(QUERY)
    monkeypatch.delenv("SNAPDEX_DATABASE_URL")
    with pytest.raises(ConfigError, match="is not a workspace"):
        retrieve(QUERY, workspace=tmp_path)


def test_langchain_refuses_an_option_that_it_does_not_know(handbook: State) -> None:
    with pytest.raises(ValueError, match="modes"):
        langchain.SnapdexRetriever(modes="dense")  # type: ignore[call-arg]


def test_asynchronous_and_many_at_a_time(handbook: State) -> None:
    queries = [f"{QUERY} {number}" for number in range(12)]
    with langchain.SnapdexRetriever(k=3) as chain, llamaindex.SnapdexRetriever(k=3) as llama:

        async def ask() -> list[list[str]]:
            chained = await chain.abatch(queries)
            nodes = await asyncio.gather(*(llama.aretrieve(query) for query in queries))
            for documents, found in zip(chained, nodes, strict=True):
                assert [each.id for each in documents] == [each.node_id for each in found]
            return [[str(each.id) for each in documents] for documents in chained]

        expected = asyncio.run(ask())
        assert [[each.id for each in documents] for documents in chain.batch(queries)] == expected
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(llama.retrieve, queries)
            assert [[each.node_id for each in nodes] for nodes in found] == expected


def test_llamaindex_shows_a_model_where_the_text_is_from_and_no_hashes(handbook: State) -> None:
    with llamaindex.SnapdexRetriever(k=1) as retriever:
        [found] = retriever.retrieve(QueryBundle(QUERY))
    shown = found.node.get_content(MetadataMode.LLM)
    assert found.text in shown and f"document: {found.metadata['document']}" in shown
    assert found.metadata["chunk"] not in shown and found.metadata["snapshot"] not in shown
    assert found.score == found.metadata["score"]


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("pipelines.langchain", "langchain_core", "langchain"),
        ("pipelines.llamaindex", "llama_index.core", "llamaindex"),
        ("pipelines.mcp", "mcp", "mcp"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(module: str, missing: str, extra: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from pipelines.errors import ConfigError\n"
        f"try: import {module}\n"
        "except ConfigError as error: print(error, error.hint, sep='|')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert missing in done.stdout and done.stdout.endswith(f"|pip install 'snapdex[{extra}]'\n")


@pytest.mark.parametrize(
    "program",
    [
        "from pipelines.langchain import SnapdexRetriever\nassert SnapdexRetriever(k=1).invoke('gate')",
        "from pipelines.llamaindex import SnapdexRetriever\nassert SnapdexRetriever(k=1).retrieve('gate')",
    ],
    ids=["langchain", "llamaindex"],
)
def test_nothing_is_fetched_and_nobody_is_told(handbook: State, tmp_path: Path, program: str) -> None:
    """No name is looked up, nothing but Postgres is connected to, no file is written, no process started."""
    watch = (
        "import sys\n"
        "def watch(event, arguments):\n"
        "    writes = event == 'open' and isinstance(arguments[1], str) and set(arguments[1]) & set('wax+')\n"
        "    if writes or event in ('socket.connect', 'socket.getaddrinfo', 'subprocess.Popen', 'os.mkdir'):\n"
        "        print(event, arguments, file=sys.stderr)\n"
        "sys.addaudithook(watch)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", watch + program],
        env=environment(handbook) | {"PYTHONPATH": str(PROJECT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
