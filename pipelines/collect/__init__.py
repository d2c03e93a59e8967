"""sources -> documents: read what is there now, keep the bytes that were hashed, and list them in the manifest.

    sources.py   from the text of a source to        seen.py      what need not be read again
    local.py       directory, file, glob             patterns.py  include and exclude
    beir.py        BEIR corpus.jsonl                 uri.py       path <-> URI
    git.py         a tree at a revision              guard.py     what stops a run before it changes anything
    remote.py      anything that fsspec opens        write.py     documents back to files

Bytes go to the store `documents` as they are read, and the manifest `documents` is written last: a crash leaves the old
one, and at worst bytes that nothing names yet. A document that cannot be read is not a deletion: its last good row
stays, and it is reported.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines import manifests
from pipelines.changes import document_changes
from pipelines.collect import guard
from pipelines.collect.guard import refuse_mass_deletion
from pipelines.collect.listing import Captured, Entry, Listing, Source
from pipelines.collect.patterns import rules
from pipelines.collect.seen import Row, Seen, read_seen, source_code, write_seen
from pipelines.collect.sources import parse_source
from pipelines.collect.write import write_documents
from pipelines.config import Config
from pipelines.erased import RULE, Erased, read_erased
from pipelines.errors import ConfigError
from pipelines.files import Store, Workspace, missing_rows
from pipelines.media import BEIR, TEXT, media_type
from pipelines.model import Document, Quarantined
from pipelines.progress import Progress, Silent

__all__ = ["CollectReport", "parse_source", "refuse_mass_deletion", "run", "write_documents"]

HIDDEN = ["**/.*", "**/.*/**", "**/~$*", "**/__pycache__/**"]  # of editors, systems and version control
LONGEST_URI_BYTES = 2048  # a B-tree of Postgres takes keys of 2,704 bytes at most
LARGE_BYTES = 16 * 2**20  # a document this large is flushed at once, so that a writer never holds two of them


@dataclass(frozen=True)
class CollectReport:
    """What there is now, and what differs from the manifest before.

    `read` files were opened and hashed, `unchanged` ones were not, because their stamps are those of the last run.
    `excluded` counts by rule; a directory that is not descended into counts once.
    """

    total: int
    added: int
    removed: int
    changed: int
    renamed: int
    read: int
    unchanged: int
    excluded: dict[str, int]
    skipped: list[tuple[str, str]]
    quarantined: list[Quarantined]
    seconds: float


def run(
    config: Config,
    workspace: Workspace,
    *,
    sources: list[str] | None = None,
    base: Path | None = None,
    allow_mass_delete: bool = False,
    recompute: bool = False,
    progress: Progress | None = None,
    now_ns: Callable[[], int] = time.time_ns,
) -> CollectReport:
    """Bring the store and the manifest `documents` to the present state of the sources (default: those of the config).

    Relative sources begin at `base` (default: the workspace). Raises `InputError`, before the manifest changes, when a
    source is missing, cannot be listed or was emptied, when two give the same URI, or when too much would be removed;
    and before anything is written in a clone whose store was not pulled, unless to `recompute` it.
    """
    started = time.monotonic()
    progress = progress or Silent()
    index = config.index.name
    texts = config.collect.sources if sources is None else sources
    if not texts:
        raise ConfigError("there is no source", hint="name one, or set collect.sources in params.yaml")
    clones = (workspace.scratch or workspace.state) / "git"
    hidden = [] if config.collect.hidden else HIDDEN
    compiled = rules(config.collect.include, [*hidden, *config.collect.exclude])
    places = [parse_source(text, base or workspace.root, clones) for text in texts]
    memory = workspace.state / "cache" / index / "seen.tsv"
    seen, before, erased = read_seen(memory), _previous(workspace, index), read_erased(workspace, index)
    time_ns = now_ns()  # before anything is read: what changes later than this is not trusted by the next run

    found = [Found.of(place, place.find(compiled), erased) for place in places]
    guard.refuse_same_uris([(each.source.name, each.listing) for each in found])
    store = workspace.store("documents")
    if before and not (recompute or seen.rows or store.segments()):
        raise missing_rows(store.directory, len(before))  # a clone: what was written now would be in the way of a pull
    present = set(store.keys())
    progress.start("collect", sum(len(each.listing.entries) for each in found))
    for each in found:
        each.recall(seen, present, erased)
        progress.advance(len(each.documents))
    unchanged = sum(len(each.documents) for each in found)
    _capture(found, store, present, erased, progress)

    documents = {uri: document for each in found for uri, document in each.documents.items()}
    read = len(documents) - unchanged
    quarantined = []
    for failure in (failure for each in found for failure in each.failures):
        if (last := before.get(failure.uri)) and not erased.content(last.content_sha256):
            documents[failure.uri] = last
            failure = replace(failure, content_sha256=last.content_sha256)
        quarantined.append(failure)
    changes = document_changes(
        {uri: document.content_sha256 for uri, document in before.items()},
        {uri: document.content_sha256 for uri, document in documents.items()},
    )
    excluded = sum((each.listing.excluded for each in found), Counter())
    if changes.removed and not allow_mass_delete:
        emptied = [each.source.name for each in found if not each.listing.entries and seen.had_documents(each.code)]
        guard.refuse_mass_deletion(config.collect, len(before), len(changes.removed), emptied)
    if not documents and not (before and allow_mass_delete):
        raise guard.nothing_found([place.name for place in places], excluded, quarantined)

    manifests.write_documents(workspace, index, documents.values())
    if workspace.scratch is None:
        rows = {(each.code, row[1]): row for each in found for row in each.rows()}
        if read or rows != seen.rows:
            write_seen(memory, Seen(time_ns, rows))
    return CollectReport(
        total=len(documents),
        added=len(changes.added),
        removed=len(changes.removed),
        changed=len(changes.modified),
        renamed=len(changes.renamed),
        read=read,
        unchanged=unchanged,
        excluded=dict(sorted(excluded.items())),
        skipped=sorted(pair for each in found for pair in each.listing.skipped),
        quarantined=sorted(quarantined, key=lambda each: each.uri),
        seconds=time.monotonic() - started,
    )


@dataclass
class Found:
    """One source, what it lists, and what is known of it so far."""

    source: Source
    code: str
    listing: Listing
    pending: list[Entry]
    stamps: dict[str, str]
    documents: dict[str, Document]
    failures: list[Quarantined]

    @classmethod
    def of(cls, source: Source, listing: Listing, erased: Erased) -> "Found":
        if erased.records:
            kept = [entry for entry in listing.entries if not erased.document(entry.uri)]
            listing.excluded.update(
                {RULE: len(listing.entries) - len(kept)} if len(kept) < len(listing.entries) else {}
            )
            listing.entries = kept
        for entry in listing.entries:
            if len(entry.uri.encode("utf-8")) > LONGEST_URI_BYTES:
                listing.skip(entry.uri[:80] + "...", f"its name is longer than {LONGEST_URI_BYTES:,} bytes")
        listing.entries = [e for e in listing.entries if len(e.uri.encode("utf-8")) <= LONGEST_URI_BYTES]
        listing.entries.sort(key=lambda entry: entry.uri)
        return cls(source, source_code(source.key), listing, [], {}, {}, [])

    def recall(self, seen: Seen, present: set[bytes], erased: Erased) -> None:
        """Take over what did not change since the last run, as long as its bytes are still in the store."""
        for entry in self.listing.entries:
            document = seen.document(self.code, entry)
            if document and erased.content(document.content_sha256):
                self.listing.excluded[RULE] += 1
            elif document and bytes.fromhex(document.content_sha256) in present:
                self.documents[entry.uri] = document
                self.stamps[entry.uri] = entry.stamp
            else:
                self.pending.append(entry)

    def read(self) -> Iterator[Captured | Quarantined]:
        return self.source.read(self.pending) if self.pending else iter(())

    def rows(self) -> Iterator[Row]:
        """What the next run may take over."""
        for uri, document in self.documents.items():
            if stamp := self.stamps[uri]:
                size = str(document.size_bytes)
                yield self.code, uri, stamp, document.content_sha256, size, document.media_type


def _previous(workspace: Workspace, index: str) -> dict[str, Document]:
    if not workspace.manifest(index, "documents").exists():
        return {}
    return {document.uri: document for document in manifests.read_documents(workspace, index)}


def _capture(found: list[Found], store: Store, present: set[bytes], erased: Erased, progress: Progress) -> None:
    """Read what is pending; what the store lacks goes into it, and its key into `present`. What was erased does not,

    under whatever name it comes back.
    """
    with store.writer() as writer:
        for each in found:
            for captured in each.read():
                progress.advance()
                if isinstance(captured, Quarantined):
                    each.failures.append(captured)
                    continue
                uri, data = captured.entry.uri, captured.data
                sha256 = hashlib.sha256(data)
                if erased.content(sha256.hexdigest()):
                    each.listing.excluded[RULE] += 1
                    continue
                if sha256.digest() not in present:
                    present.add(sha256.digest())
                    writer.add(sha256.digest(), data)
                    if len(data) > LARGE_BYTES:
                        writer.flush()
                kind = captured.media_type or _media_type(uri, data)
                each.documents[uri] = Document(uri, sha256.hexdigest(), len(data), kind)
                each.stamps[uri] = captured.entry.stamp


def _media_type(uri: str, data: bytes) -> str:
    kind = media_type(uri, data)
    # A BEIR corpus is taken apart only where it is named as a source; a file of many such lines elsewhere is text.
    return TEXT if kind == BEIR and b"\n" in data.strip() else kind
