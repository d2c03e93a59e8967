"""`open_index`: search from Python, without Prefect, DVC, MLflow or torch on the way in."""

import copy
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.config import Config, load_config
from pipelines.errors import ConfigError
from pipelines.files import Workspace
from pipelines.index.catalog import Version, get_index, get_version, last_maintenance
from pipelines.index.db import Connection, connect, database_url, translated_errors
from pipelines.index.search import Result, plain, search
from pipelines.models import resolve_model

QueryEncoder = Callable[[str, Version], Sequence[float]]  # a query, and the version that it goes to


class Reader:
    """An open index. One query sees one version; between queries the pointer may move.

    Answers are remembered (`search.cache`) for the content they came from: which version is meant is asked each time,
    and an answer from before an erasure is not used again.
    """

    def __init__(self, connection: Connection, name: str, config: Config, encode: QueryEncoder) -> None:
        self.connection = connection
        self.name = name
        self.config = config
        self._encode = encode
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
    ) -> Result:
        """The k best chunks for `query`; defaults come from the section `search` of params.yaml.

        `at`: a version (`v3`, a tag, a snapshot prefix) instead of the active one. The query is embedded with the
        model of that version, whatever params.yaml says now: a rollback brings the old model back.
        """
        settings = self.config.search
        mode = mode or settings.mode
        query = plain(query)
        with translated_errors():
            index = get_index(self.connection, self.name)
            version = get_version(self.connection, index, at or "active")
            maintained = last_maintenance(self.connection, index) if settings.cache else 0
        options: dict[str, Any] = {
            "k": settings.k if k is None else k,
            "mode": mode,
            "at": version.number,
            "filter": dict(filter or {}),
            "dense_weight": settings.dense_weight,
            "exact": exact,
            "fusion": fusion or settings.fusion,
            "mmr_lambda": settings.mmr_lambda if (settings.mmr if mmr is None else mmr) else 1.0,
            "collapse": settings.collapse,
            "expand": expand or settings.expand,
        }
        key = repr((query, version.snapshot, maintained, options))
        result = self._known.pop(key, None)
        if result is None:
            vector = None if mode == "lexical" else self._encode(query, version)
            result = search(self.connection, self.name, query, vector=vector, **options)
        self._known[key] = result  # now the youngest
        if len(self._known) > settings.cache:
            self._known.popitem(last=False)
        return copy.deepcopy(result)  # whoever changes their answer does not change the next one


@contextmanager
def open_index(
    name: str | None = None,
    *,
    workspace: Path | None = None,
    config: Config | None = None,
    encode: QueryEncoder | None = None,
) -> Iterator[Reader]:
    """A reader of the index `name` (default: the one in params.yaml) of a workspace (default: `SNAPDEX_HOME`, or here).

    `encode`: from a query to its vector; by default the model of the version, loaded when a query needs it.
    """
    home = Workspace((workspace or Path(os.environ.get("SNAPDEX_HOME") or ".")).resolve())
    if config is None and not home.params.exists() and not os.environ.get("SNAPDEX_DATABASE_URL"):
        raise ConfigError(
            f"{home.root} is not a workspace: it has no params.yaml",
            hint="set SNAPDEX_HOME to a workspace, or SNAPDEX_DATABASE_URL to its database",
        )
    settings = config or (load_config(home.params) if home.params.exists() else Config())

    def with_model(query: str, version: Version) -> Sequence[float]:
        from pipelines.embed import encode_query  # the only import of a stage by another: a reader needs the encoder

        of_version = settings.model_copy(update={"embed": settings.embed.model_copy(update={"model": version.model})})
        found = resolve_model(of_version.embed, home)
        if found.space != version.space:
            raise ConfigError(
                f"version {version.number} was embedded with {version.model} {version.model_revision[:12]},"
                f" and {version.model} on this machine is {found.revision[:12]}",
                hint="bring that model back, or search with --mode lexical",
            )
        vector: Sequence[float] = encode_query(of_version, home, query).tolist()
        return vector

    with connect(database_url(home)) as connection:
        yield Reader(connection, name or settings.index.name, settings, encode or with_model)
