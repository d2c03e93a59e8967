"""A small workspace with its database: tests change documents, run, and ask what a user would ask."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import ingest, media
from pipelines.config import Config, load_config
from pipelines.embed import encode_query
from pipelines.files import Workspace
from pipelines.index import Move, Result, publish, rollback, search
from pipelines.index.catalog import Index, Version, get_index, get_version, versions
from pipelines.index.db import Connection, connect
from pipelines.index.history import documents_of
from pipelines.index.verify import verify
from pipelines.manifests import element_key
from pipelines.parse.document import parse_bytes
from pipelines.parse.fingerprint import fingerprint

PARAMS = """
index: {{name: handbook}}
collect: {{sources: [{sources}]}}
chunk: {{max_tokens: 32, min_tokens: 0}}
embed: {{model: "hash:64"}}
"""

WORDS = [
    "harbour",
    "ledger",
    "falcon",
    "orchard",
    "granite",
    "velvet",
    "lantern",
    "meadow",
    "copper",
    "thistle",
    "walnut",
    "ember",
]


@dataclass(frozen=True)
class State:
    """Documents in `docs/`, or in `corpus.jsonl` where that was written; everything else is as in any workspace."""

    root: Path
    url: str
    config: Config

    @classmethod
    def make(cls, root: Path, url: str, *settings: str) -> "State":
        """`settings`: `section.key=value`."""
        docs = root / "docs"
        docs.mkdir(parents=True)
        (root / "params.yaml").write_text(PARAMS.format(sources=docs), "utf-8")
        return cls(root, url, load_config(root / "params.yaml", list(settings)))

    def copy(self, root: Path, url: str) -> "State":
        """A workspace with the same documents and files; `url` should be a copy of the database."""
        shutil.copytree(self.root, root)
        (root / "params.yaml").write_text(PARAMS.format(sources=root / "docs"), "utf-8")
        return State(root, url, load_config(root / "params.yaml"))

    def with_settings(self, *settings: str) -> "State":
        """The same workspace with other parameters."""
        return State(self.root, self.url, load_config(self.root / "params.yaml", list(settings)))

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    @property
    def name(self) -> str:
        return self.config.index.name

    # -- documents

    def path(self, uri: str) -> Path:
        return self.root / "docs" / uri

    def write(self, documents: Mapping[str, str]) -> "State":
        for uri, text in documents.items():
            self.path(uri).parent.mkdir(parents=True, exist_ok=True)
            self.path(uri).write_text(text, "utf-8")
        return self

    def become(self, documents: Mapping[str, str]) -> None:
        """Let these be all documents there are."""
        for path in (self.root / "docs").rglob("*.*"):
            if str(path.relative_to(self.root / "docs")) not in documents:
                path.unlink()
        self.write(documents)

    def write_corpus(self, records: Iterable[Mapping[str, object]]) -> list[str]:
        """A BEIR file of these records; returns it as the source to run with."""
        path = self.root / "corpus.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        return [str(path)]

    # -- the job

    def run(self, **options: Any) -> dict[str, Any]:
        self._parse_here()
        return ingest.run(self.config, self.workspace, allow_mass_delete=True, **options)

    def plan(self, **options: Any) -> dict[str, Any]:
        self._parse_here()
        return ingest.plan(self.config, self.workspace, allow_mass_delete=True, **options)

    def publish(self, version: int, *, epoch: int | None = None, **options: Any) -> Move:
        if epoch is None:
            epoch = self.index().epoch
        return publish(lambda: connect(self.url), self.name, version, epoch=epoch, **options)

    def rollback(self, version: str | None = None) -> Move:
        return rollback(lambda: connect(self.url), self.name, version)

    def _parse_here(self) -> None:
        """Put what a worker process would make of new files where the stage finds it: the rest of a run takes less
        time than starting a worker."""
        parser = fingerprint(self.config.parse)
        store = self.workspace.store("elements")
        contents = {path: path.read_bytes() for path in sorted((self.root / "docs").rglob("*.*"))}
        keys = {
            element_key(hashlib.sha256(data).hexdigest(), media.media_type(path.name, data), parser): path
            for path, data in contents.items()
        }
        with store.writer() as writer:
            for key in store.missing(keys):
                data = contents[keys[key]]
                parsed = parse_bytes(data, media.media_type(keys[key].name, data), self.config.parse)
                writer.add(key, parsed.to_json().encode())

    # -- what is there

    def connect(self) -> Connection:
        return connect(self.url)

    def index(self) -> Index:
        with self.connect() as connection:
            return get_index(connection, self.name)

    def version(self, name: str | int) -> Version:
        with self.connect() as connection:
            return get_version(connection, get_index(connection, self.name), name)

    def versions(self) -> list[Version]:
        """Oldest first."""
        with self.connect() as connection:
            return versions(connection, get_index(connection, self.name))[::-1]

    def documents(self, version: str | int) -> dict[str, str]:
        """URI to content hash."""
        with self.connect() as connection:
            index = get_index(connection, self.name)
            found = documents_of(connection, index, get_version(connection, index, version))
        return {document.uri: document.content_sha256 for document in found}

    def problems(self, version: str | int = "active") -> list[str]:
        with self.connect() as connection:
            index = get_index(connection, self.name)
            return verify(connection, index, get_version(connection, index, version))[1]

    def vector(self, query: str) -> list[float]:
        vector: list[float] = encode_query(self.config, self.workspace, query).tolist()
        return vector

    def search(self, query: str, mode: str = "hybrid", **options: Any) -> Result:
        vector = None if mode == "lexical" else self.vector(query)
        with self.connect() as connection:
            return search(connection, self.name, query, vector=vector, mode=mode, **options)

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """SQL among the tables of the index."""
        schema = self.index().schema
        with self.connect() as connection:
            connection.execute(f"SET search_path = {schema}, public".encode())
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
