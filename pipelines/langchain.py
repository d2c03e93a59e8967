"""A retriever for LangChain.

with SnapdexRetriever(index="handbook", k=5) as retriever:
    retriever.invoke("how do I roll back?")
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import ConfigDict, PrivateAttr

from pipelines.errors import ConfigError
from pipelines.readers import Readers, open_readers

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
except ImportError as error:
    raise ConfigError(f"this retriever needs {error.name}", hint="pip install 'snapdex[langchain]'") from error


class SnapdexRetriever(BaseRetriever):
    """Searches an index; any number of threads may share it, and it outlives a restart of Postgres.

    A document is the text of a hit, best first; its id is the chunk, its metadata everything else (`Result.lineage`).
    What is None is as params.yaml says. Raises what `Reader.search` raises; only `ServiceUnavailable` is worth a retry.
    """

    model_config = ConfigDict(extra="forbid")

    index: str | None = None
    workspace: Path | str | None = None  # default: SNAPDEX_HOME, or here
    k: int | None = None
    mode: Literal["hybrid", "dense", "lexical"] | None = None
    at: str | int | None = None  # a version instead of the active one
    filter: dict[str, Any] | None = None
    abstain: bool = True  # whether an answer that is no answer, for the version, has no documents

    _readers: Readers = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        self._readers = open_readers(self.index, workspace=self.workspace)

    def close(self) -> None:
        """Close the connections."""
        self._readers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        with self._readers.reader() as reader:
            found = reader.search(query, k=self.k, mode=self.mode, at=self.at, filter=self.filter)
        hits = [] if found.abstained and self.abstain else found.hits
        return [Document(id=hit.chunk, page_content=hit.text, metadata=found.lineage(hit)) for hit in hits]
