"""Documents that were erased: the record that every ingest, build and restore asks, so that none of them comes back.

`data/manifests/INDEX/erased.tsv` is written before anything is removed and is never shortened. It holds hashes only, no
name and no text: for each document the hash of its URI, what it was in the versions that held it (their leaves, so that
snapshot ids can still be checked), a hash of the hash of each content (so that a copy under another name is known), and
when. Its header is signed: HMAC-SHA256 with the key in `SNAPDEX_SIGNING_KEY` where that is set, else plain SHA-256.
A second copy lies in `.snapdex/`, so that checking out an earlier commit takes nothing back; `restore` puts what other
branches have into it, too.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pipelines.errors import IntegrityError
from pipelines.files import Manifest, Workspace, parse_manifest, read_manifest

RULE = "erased"  # under which collect counts what it leaves out
KEY_VARIABLE = "SNAPDEX_SIGNING_KEY"
NONE = "-"


def document_hash(uri: str) -> str:
    """64 hex digits: what stands for the name of an erased document."""
    return hashlib.sha256(uri.encode("utf-8")).hexdigest()


def content_key(content_sha256: str) -> str:
    """64 hex digits: what stands for bytes that were erased; even their own hash is not kept."""
    return hashlib.sha256(content_sha256.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that a document was: a leaf of sealed versions, a content, mostly both."""

    document_sha256: str
    leaf: bytes | None
    content_key: str | None
    at: str  # UTC, ISO 8601: when it was erased

    @property
    def what(self) -> tuple[str, bytes | None, str | None]:
        return self.document_sha256, self.leaf, self.content_key

    def to_row(self) -> tuple[str, ...]:
        return self.document_sha256, self.leaf.hex() if self.leaf else NONE, self.content_key or NONE, self.at

    @classmethod
    def from_row(cls, row: tuple[str, ...]) -> "Record":
        document_sha256, leaf, content, at = row
        return cls(
            document_sha256, None if leaf == NONE else bytes.fromhex(leaf), None if content == NONE else content, at
        )


@dataclass(frozen=True)
class Erased:
    """What was erased from one index; empty where nothing was."""

    records: tuple[Record, ...] = ()

    @cached_property
    def documents(self) -> frozenset[str]:
        """Hashes of URIs."""
        return frozenset(record.document_sha256 for record in self.records)

    @cached_property
    def contents(self) -> frozenset[str]:
        """Keys of contents."""
        return frozenset(record.content_key for record in self.records if record.content_key)

    @cached_property
    def leaves(self) -> frozenset[tuple[str, bytes]]:
        """(hash of the URI, leaf) of everything that sealed versions held."""
        return frozenset((record.document_sha256, record.leaf) for record in self.records if record.leaf)

    def document(self, uri: str) -> bool:
        """Whether the document of this name was erased."""
        return bool(self.records) and document_hash(uri) in self.documents

    def content(self, content_sha256: str) -> bool:
        """Whether these bytes were erased, under whatever name."""
        return bool(self.records) and content_key(content_sha256) in self.contents

    def either(self, uri: str, content_sha256: str) -> bool:
        return self.document(uri) or self.content(content_sha256)


def read_erased(workspace: Workspace, index: str) -> Erased:
    """What was erased from this index. Raises `IntegrityError` where somebody has changed the record."""
    rows = {record.what: record for path in _paths(workspace, index) for record in _read(path)}
    return Erased(tuple(rows.values()))


def add_erased(workspace: Workspace, index: str, records: Iterable[Record]) -> Erased:
    """Put these into the record, durably; what is in it already keeps its time. Returns all of it."""
    return _add(workspace, index, records, _paths(workspace, index))


def learn_erased(workspace: Workspace, index: str, copies: Iterable[tuple[str, bytes]]) -> Erased:
    """Put what these copies of the record (where each is from, its bytes) have into the one in `.snapdex/`.

    The file in the working tree stays as it was checked out. Returns all of it; raises as `read_erased`.
    """
    known = read_erased(workspace, index)
    records = [each for where, data in copies for each in _records(parse_manifest(data, "erased", where), where)]
    if {record.what for record in records} <= {record.what for record in known.records}:
        return known
    return _add(workspace, index, records, _paths(workspace, index)[1:])


def _add(workspace: Workspace, index: str, records: Iterable[Record], paths: Iterable[Path]) -> Erased:
    rows = {record.what: record for record in records}
    rows |= {record.what: record for record in read_erased(workspace, index).records}
    lines = [record.to_row() for record in rows.values()]
    key = os.environ.get(KEY_VARIABLE, "")
    facts = {"signature": f"{'hmac-sha256' if key else 'sha256'}:{_signature(lines, key)}"}
    for path in paths:
        Manifest("erased", facts, lines).write(path)
    return Erased(tuple(rows.values()))


def without_erased(manifest: Manifest, erased: Erased) -> Manifest:
    """A manifest of documents, elements or chunks of an earlier state without the rows of what was erased since."""
    return replace(manifest, rows=[row for row in manifest.rows if not erased.either(row[0], row[1])])


def leaves_beside(snapshot: Manifest) -> list[tuple[str, bytes]]:
    """(hash of the URI, leaf) of what belongs to a snapshot and is in no other manifest any more: it was erased."""
    return [(document, bytes.fromhex(leaf)) for document, leaf in snapshot.rows]


def with_leaves(snapshot: Manifest, leaves: Iterable[tuple[str, bytes]]) -> Manifest:
    """Manifest `snapshot` that also has these, so that its id can still be checked and restored."""
    return replace(snapshot, rows=sorted({*snapshot.rows, *((document, leaf.hex()) for document, leaf in leaves)}))


def _paths(workspace: Workspace, index: str) -> tuple[Path, Path]:
    """In the workspace itself also where other manifests are looked at, as in a dry run: no state is without it."""
    return Workspace(workspace.root).manifest(index, "erased"), workspace.state / "erased" / f"{index}.tsv"


def _read(path: Path) -> list[Record]:
    manifest = read_manifest(path, "erased")
    return [] if manifest is None else _records(manifest, str(path))


def _records(manifest: Manifest, where: str) -> list[Record]:
    method, _, stated = manifest.facts.get("signature", "").partition(":")
    key = os.environ.get(KEY_VARIABLE, "") if method == "hmac-sha256" else ""
    unchecked = method == "hmac-sha256" and not key  # whoever has no key relies on git, as for other manifests
    if method not in ("sha256", "hmac-sha256") or not (unchecked or _signature(manifest.rows, key) == stated):
        raise IntegrityError(
            f"{where} was changed after it was signed: its signature is not that of its rows",
            hint=f"bring it back: git checkout -- FILE; and see that {KEY_VARIABLE} is the key that signed it",
        )
    try:
        return [Record.from_row(row) for row in manifest.rows]
    except ValueError as error:
        raise IntegrityError(
            f"{where} holds a row of another form", hint="bring it back: git checkout -- FILE"
        ) from error


def _signature(rows: Iterable[tuple[str, ...]], key: str) -> str:
    text = "\n".join(sorted("\t".join(row) for row in rows)).encode("utf-8")
    return hmac.new(key.encode("utf-8"), text, "sha256").hexdigest() if key else hashlib.sha256(text).hexdigest()
