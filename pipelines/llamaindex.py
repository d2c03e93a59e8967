"""A retriever for LlamaIndex.

with SnapdexRetriever("handbook", k=5) as retriever:
    retriever.retrieve("how do I roll back?")
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pipelines.errors import ConfigError
from pipelines.index import Hit, Result
from pipelines.readers import open_readers

try:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise ConfigError(f"this retriever needs {error.name}", hint="pip install 'snapdex[llamaindex]'") from error

FOR_MODELS = ("document", "section", "page")  # what a language model is shown beside the text


class SnapdexRetriever(BaseRetriever):
    """Searches an index; any number of threads may share it, and it outlives a restart of Postgres.

    A node is the text of a hit, best first; its id is the chunk, its metadata everything else (`Result.lineage`). What
    is None is as params.yaml says. Raises what `Reader.search` raises; only `ServiceUnavailable` is worth a retry.
    """

    def __init__(
        self,
        index: str | None = None,
        *,
        workspace: Path | str | None = None,
        k: int | None = None,
        mode: Literal["hybrid", "dense", "lexical"] | None = None,
        at: str | int | None = None,
        filter: Mapping[str, Any] | None = None,
        abstain: bool = True,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """`workspace`: default `SNAPDEX_HOME`, or here. `at`: a version instead of the active one. `abstain`: whether
        an answer that is no answer, for the version, has no nodes.
        """
        super().__init__(callback_manager)
        self._readers = open_readers(index, workspace=workspace)
        self._options: dict[str, Any] = {"k": k, "mode": mode, "at": at, "filter": filter}
        self._abstain = abstain

    def close(self) -> None:
        """Close the connections."""
        self._readers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        with self._readers.reader() as reader:
            found = reader.search(query_bundle.query_str, **self._options)
        return [] if found.abstained and self._abstain else [_node(found, hit) for hit in found.hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node(found: Result, hit: Hit) -> NodeWithScore:
    facts = found.lineage(hit)
    hidden = [name for name in facts if name not in FOR_MODELS]
    node = TextNode(
        id_=hit.chunk,
        text=hit.text,
        metadata=facts,
        start_char_idx=hit.start,
        end_char_idx=hit.end,
        excluded_llm_metadata_keys=hidden,
        excluded_embed_metadata_keys=hidden,
    )
    return NodeWithScore(node=node, score=hit.score)
