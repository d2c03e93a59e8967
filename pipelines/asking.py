"""A reader that is asked questions which are known beforehand, such as those of a golden set."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipelines import index
from pipelines.config import Config
from pipelines.embed import encode_queries
from pipelines.files import Workspace
from pipelines.index.catalog import get_index, get_version
from pipelines.index.reader import with_model_of
from pipelines.index.search import plain

MOST_CHUNKS = 50_000


@contextmanager
def asking(config: Config, workspace: Workspace, texts: Sequence[str]) -> Iterator[index.Reader]:
    """A reader that embeds all of `texts` together, which takes much less time than one after the other.

    It remembers no answer and logs no search. Other queries than `texts` are a KeyError.
    """
    vectors: dict[str, list[float]] = {}

    def encode(text: str, of: index.Version) -> Sequence[float]:
        if not vectors:
            plainly = sorted({plain(each) for each in texts})
            changed, model = with_model_of(of, config, workspace)
            found = encode_queries(changed, workspace, plainly, model=model)
            vectors.update(zip(plainly, found.tolist(), strict=True))
        return vectors[text]

    with index.open_index(
        config.index.name, workspace=workspace.root, config=forgetful(config), encode=encode
    ) as reader:
        yield reader


def forgetful(config: Config) -> Config:
    """The same parameters for a reader that remembers no answer."""
    return config.model_copy(update={"search": config.search.model_copy(update={"cache": 0})})


def affords_exact(reader: index.Reader, version: int) -> bool:
    """Whether every distance is computed for each question of a golden set: 2 microseconds a chunk, for 300 questions
    half a minute here. A larger version is asked through its graph, and its metrics are not the same to the last digit
    on another machine."""
    with index.translated_errors():
        return get_version(reader.connection, get_index(reader.connection, reader.name), version).chunks <= MOST_CHUNKS
