"""`open_index`: search from Python, without Prefect, DVC, MLflow or torch on the way in."""

import copy
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg

from pipelines.config import Config, load_config
from pipelines.errors import ConfigError
from pipelines.files import Workspace
from pipelines.index.catalog import Version, get_index, get_version, last_maintenance
from pipelines.index.db import Connection, database_url, translated_errors
from pipelines.index.db import connect as open_connection
from pipelines.index.retrievals import RetrievalLog
from pipelines.index.search import Result, coverage, plain, search
from pipelines.models import LATE_INTERACTION, EmbeddingModel, Reranker, resolve_model, resolve_reranker

UNLEARNED_WEIGHT = 0.5  # of the dense score, for a version without a golden set of some size
Similarities = Callable[[str, Sequence[str]], list[float]]  # of a query with each text, cosine
QueryEncoder = Callable[[str, Version], Sequence[float]]  # a query, and the version that it goes to


class Reader:
    """An open index. One query sees one version; between queries the pointer may move.

    Answers are remembered (`search.cache`) for the content they came from: which version is meant is asked each time,
    and an answer from before an erasure is not used again.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        config: Config,
        home: Workspace,
        encode: QueryEncoder,
        log: RetrievalLog | None = None,
    ) -> None:
        self.connection = connection
        self.name = name
        self.config = config
        self._home = home
        self._encode = encode
        self._models: dict[str, tuple[Config, EmbeddingModel]] = {}  # by the space of versions
        self._cross_encoder: Reranker | None = None
        self._log = log
        self._known: OrderedDict[str, Result] = OrderedDict()  # by everything that decides an answer; oldest first

    def search(
        self,
        query: str,
        *,
        k: int | None = None,
        mode: str | None = None,
        at: str | int | None = None,
        filter: Mapping[str, Any] | None = None,
        exact: bool = False,
        fusion: str | None = None,
        mmr: bool | None = None,
        expand: str | None = None,
        rerank: bool | None = None,
        vector: Sequence[float] | None = None,
    ) -> Result:
        """The k best chunks for `query`; defaults come from the section `search` of params.yaml.

        `at`: a version (`v3`, a tag, a snapshot prefix) instead of the active one. The query is embedded with the
        model of that version, whatever params.yaml says now: a rollback brings the old model back. `vector`: the query
        as that model embeds it, from who has done so already.

        `rerank`: let `search.reranker` look at the best `search.rerank_depth` hits and put them in order; their scores
        are then its own, 0 to 1. What ranks lower follows as it was.

        A search goes to the retrieval log as the section `log` says.
        """
        settings = self.config.search
        asked = mode or settings.mode
        fusion = fusion or settings.fusion
        query = plain(query)
        with translated_errors():
            index = get_index(self.connection, self.name)
            version = get_version(self.connection, index, _named(at))
            maintained = last_maintenance(self.connection, index) if settings.cache else 0
        mode, weight = self._mode(asked, fusion, version)
        k = settings.k if k is None else k
        reranker = self._reranker(version) if (settings.rerank if rerank is None else rerank) else None
        options: dict[str, Any] = {
            "k": max(k, settings.rerank_depth) if reranker else k,
            "mode": mode,
            "at": version.number,
            "filter": dict(filter or {}),
            "dense_weight": weight,
            "exact": exact,
            "fusion": fusion,
            "mmr_lambda": settings.mmr_lambda if (settings.mmr if mmr is None else mmr) else 1.0,
            "collapse": settings.collapse,
            "expand": expand or settings.expand,
        }
        given = None if vector is None else tuple(vector)
        key = repr((query, asked, version.snapshot, version.calibration, maintained, options, k, reranker, given))
        result = self._known.pop(key, None)
        began = time.monotonic()
        if result is None:
            if vector is None and asked != "lexical":
                vector = self._encode(query, version)
            began = time.monotonic()
            result = search(self.connection, self.name, query, vector=vector, **options)
            if reranker:
                result = self._reranked(result, version, reranker, k)
        if self._log:
            self._log.write(result, k=k, seconds=time.monotonic() - began)
        if not settings.cache:
            return result
        self._known[key] = result  # now the youngest
        if len(self._known) > settings.cache:
            self._known.popitem(last=False)
        return copy.deepcopy(result)  # whoever changes their answer does not change the next one

    def evidence(self, query: str, *, at: str | int | None = None) -> tuple[float, float]:
        """What speaks for an answer: the similarity of the nearest chunk, and the share of the query's weight in words
        that one chunk has. A version that was calibrated abstains below its threshold (see docs/calibration.md).
        """
        nearest = self.search(query, k=1, mode="dense", at=at, mmr=False, expand="chunk", rerank=False).hits
        return (nearest[0].score if nearest else 0.0), self.coverage(query, at=at)

    def coverage(self, query: str, *, at: str | int | None = None) -> float:
        """The share of the query's weight in words that one chunk has: 0 to 1."""
        version = self.version(at)
        with translated_errors():
            return coverage(self.connection, self.name, plain(query), at=version.number)

    def version(self, at: str | int | None = None) -> Version:
        """The active version, or the one that `at` names."""
        with translated_errors():
            return get_version(self.connection, get_index(self.connection, self.name), _named(at))

    def log_answer(self, version: int, question: str, cited: Sequence[str], *, abstained: bool, seconds: float) -> None:
        """Note an answer in the retrieval log as the section `log` says. cited: the documents of its citations."""
        if self._log:
            self._log.write_answer(self.name, version, question, cited, abstained=abstained, seconds=seconds)

    def similarities(self, version: Version) -> Similarities | None:
        """By the embedding model of the version; None where that is at a server, where each would be a request."""
        from pipelines.embed import encode_passages

        config, model = self._model_of(version)
        if model.kind == "endpoint":
            return None

        def similar(query: str, texts: Sequence[str]) -> list[float]:
            vectors = encode_passages(config, self._home, texts, model=model)
            found: list[float] = (vectors @ self._encode(plain(query), version)).tolist()
            return found

        return similar

    def is_alive(self) -> bool:
        """Whether the server still answers on this connection, which may have broken unnoticed."""
        try:
            self.connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _model_of(self, version: Version) -> tuple[Config, EmbeddingModel]:
        """Resolved once, as every model: what a name means does not change while the reader is open."""
        if version.space not in self._models:
            self._models[version.space] = with_model_of(version, self.config, self._home)
        return self._models[version.space]

    def _reranker(self, version: Version) -> Reranker | EmbeddingModel:
        """A cross-encoder, or the model of the version, whose tokens are compared."""
        if self.config.search.reranker == LATE_INTERACTION:
            return self._model_of(version)[1]
        if self._cross_encoder is None:
            self._cross_encoder = resolve_reranker(self.config.search.reranker, self._home)
        return self._cross_encoder

    def _reranked(self, result: Result, version: Version, reranker: Reranker | EmbeddingModel, k: int) -> Result:
        """The first k hits after the reranker has put the best ones in order; equal ones stay in theirs."""
        from pipelines.embed import score_pairs, score_tokens

        read, rest = result.hits[: self.config.search.rerank_depth], result.hits[self.config.search.rerank_depth :]
        passages = [hit.passage for hit in read]
        if isinstance(reranker, Reranker):
            scores = score_pairs(reranker, result.query, passages)
        else:
            scores = score_tokens(self._model_of(version)[0], reranker, result.query, passages)
        order = sorted(range(len(read)), key=lambda place: -scores[place])
        hits = [*(replace(read[place], score=scores[place]) for place in order), *rest][:k]
        return replace(result, hits=[replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)])

    def _mode(self, mode: str, fusion: str, version: Version) -> tuple[str, float]:
        """How the version is searched: a fusion of which one leg has all the weight is that leg."""
        weight = self.config.search.dense_weight
        if weight != "learned":
            return mode, weight
        learned = (version.calibration or {}).get("dense_weight", UNLEARNED_WEIGHT)
        alone = mode == "hybrid" and fusion == "convex"
        return {0.0: "lexical", 1.0: "dense"}.get(learned, mode) if alone else mode, learned


def _named(at: str | int | None) -> str | int:
    """What a caller calls a version; any text may come from a program, and 0 is no version."""
    return "active" if at is None or at == "" else plain(at) if isinstance(at, str) else at


def with_model_of(version: Version, config: Config, home: Workspace) -> tuple[Config, EmbeddingModel]:
    """The parameters with the model of the version, and that model. Raises `ConfigError` where this machine has another
    one under its name: vectors of two spaces are never compared."""
    changed = config.with_model(version.model)
    found = resolve_model(changed.embed, home)
    if found.space != version.space:
        raise ConfigError(
            f"version {version.number} was embedded with {version.model} {version.model_revision[:12]},"
            f" and {version.model} on this machine is {found.revision[:12]}",
            hint="bring that model back, or search with --mode lexical",
        )
    return changed, found


def encoder_of_versions(config: Config, home: Workspace) -> QueryEncoder:
    """Embeds a query with the model of the version that it goes to: found and checked once, loaded when a query needs
    it."""
    found: dict[str, tuple[Config, EmbeddingModel]] = {}  # by the space of versions

    @lru_cache(maxsize=1)  # an answer in quotations compares sentences with the question that was searched for
    def embedded(query: str, space: str) -> Sequence[float]:
        from pipelines.embed import encode_query  # a stage imports another here alone: a reader needs its models

        changed, model = found[space]
        vector: Sequence[float] = encode_query(changed, home, query, model=model).tolist()
        return vector

    def encode(query: str, version: Version) -> Sequence[float]:
        if version.space not in found:
            found[version.space] = with_model_of(version, config, home)
        return embedded(query, version.space)

    return encode


def workspace_at(directory: Path | str | None) -> Workspace:
    """The workspace in a directory; default: `SNAPDEX_HOME`, or here."""
    return Workspace(Path(directory or os.environ.get("SNAPDEX_HOME") or ".").resolve())


def parameters_in(home: Workspace) -> Config:
    """The parameters of a workspace. Raises `ConfigError` where it is none, and no database is named instead."""
    if home.params.exists():
        return load_config(home.params)
    if not os.environ.get("SNAPDEX_DATABASE_URL"):
        raise ConfigError(
            f"{home.root} is not a workspace: it has no params.yaml",
            hint="set SNAPDEX_HOME to a workspace, or SNAPDEX_DATABASE_URL to its database",
        )
    return Config()


@contextmanager
def open_index(
    name: str | None = None,
    *,
    workspace: Path | str | None = None,
    config: Config | None = None,
    encode: QueryEncoder | None = None,
    log: bool | None = None,
    connect: Callable[[], Connection] | None = None,
) -> Iterator[Reader]:
    """A reader of the index `name` (default: the one in params.yaml) of a workspace (default: `SNAPDEX_HOME`, or here).

    `encode`: from a query to its vector; by default the model of the version, loaded when a query needs it. `log`:
    whether searches go to the retrieval log as the parameters say; by default not those of who brings parameters of
    its own, such as an evaluation. `connect`: to another database, or with fewer rights.
    """
    home = workspace_at(workspace)
    settings = config or parameters_in(home)

    with connect() if connect else open_connection(database_url(home)) as connection:
        retrievals = RetrievalLog(connection, settings.log) if log or (log is None and config is None) else None
        encode = encode or encoder_of_versions(settings, home)
        yield Reader(connection, name or settings.index.name, settings, home, encode, retrievals)
