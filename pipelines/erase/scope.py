"""What has to go: the document, its copies, every content and leaf it ever had, and the keys that follow from them."""

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from pipelines import media
from pipelines.erase.known import Known, read_known
from pipelines.erase.segments import Condemned, Vectors, stores
from pipelines.erased import Erased, Record, content_key, document_hash, read_erased
from pipelines.files import Workspace, atomic_write
from pipelines.index.catalog import Index, find_index
from pipelines.index.db import Connection
from pipelines.index.erase import chunk_keys, documents_of_hashes, held, holders, recipes, revisions, shared_chunk_keys
from pipelines.manifests import NONE, element_key
from pipelines.model import leaf, revision_key

EMPTY = hashlib.sha256(b"").hexdigest()
NOBODYS = {EMPTY, ""}  # no bytes, and bytes that could not be read: no text, and the same for many documents
MEDIA_TYPES = {
    value for name, value in vars(media).items() if name.isupper() and isinstance(value, str) and "/" in value
}


@dataclass
class Scope:
    """`documents`: by index, what is erased there; `unfinished`: an earlier command for these was interrupted."""

    index: str
    document: str
    documents: dict[str, set[str]]
    erased: dict[str, Erased]
    known: Known
    contents: set[str] = field(default_factory=set)
    condemned: Condemned = field(default_factory=Condemned)
    vectors: Vectors = field(default_factory=Vectors)
    objects: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)  # indexes whose tables lose rows
    unfinished: bool = False

    @property
    def copies(self) -> list[tuple[str, str]]:
        """(index, document) of what has the same content and was not erased before."""
        return sorted(
            (index, uri)
            for index, uris in self.documents.items()
            for uri in uris
            if (index, uri) != (self.index, self.document) and not self.erased[index].document(uri)
        )

    def goes(self, index: str, uri: str, content_sha256: str) -> bool:
        """Whether a manifest's row of this document goes."""
        return uri in self.documents.get(index, ()) or content_sha256 in self.contents


def find_scope(
    connection: Connection, workspace: Workspace, index: str, document: str, parser: str
) -> tuple[Scope, dict[str, Index]]:
    """Everything of the document, of copies of it, and of what an interrupted command has left; and the indexes that

    this database has. `parser`: the present one's fingerprint.
    """
    known = read_known(workspace, index)
    erased = {name: read_erased(workspace, name) for name in known.indexes}
    indexes = {name: found for name in known.indexes if (found := find_index(connection, name))}
    scope = Scope(index, document, {name: set() for name in known.indexes}, erased, known)
    scope.documents[index].add(document)
    _find_left(connection, indexes, scope)
    _close(connection, indexes, scope)
    _read_unfinished(workspace, scope)
    _condemn(connection, indexes, scope, parser)
    _find_vectors(connection, indexes, workspace, scope)
    return scope, indexes


def _find_left(connection: Connection, indexes: dict[str, Index], scope: Scope) -> None:
    """Documents whose erasure began and did not end: they are finished with this one."""
    for mention in scope.known.mentions(past=False):
        if scope.erased[mention.index].document(mention.uri):
            scope.documents[mention.index].add(mention.uri)
    for name, index in indexes.items():
        if hashes := scope.erased[name].documents:
            scope.documents[name] |= documents_of_hashes(connection, index, hashes)


def _close(connection: Connection, indexes: dict[str, Index], scope: Scope) -> None:
    """Add what each document ever contained, and whoever has one of these contents, until nothing is new."""
    by_document: dict[tuple[str, str], set[str]] = defaultdict(set)
    by_content: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for mention in scope.known.mentions():
        by_document[mention.index, mention.uri].add(mention.content_sha256)
    for mention in scope.known.mentions(past=False):
        by_content[mention.content_sha256].add((mention.index, mention.uri))
    done: set[tuple[str, str]] = set()
    while todo := {(name, uri) for name, uris in scope.documents.items() for uri in uris} - done:
        done |= todo
        new: set[str] = set().union(*(by_document[each] for each in todo))
        for name, index in indexes.items():
            new |= {each.content_sha256 for each in held(connection, index, [uri for at, uri in todo if at == name])}
        new -= scope.contents | NOBODYS
        scope.contents |= new
        for name, index in indexes.items():
            scope.documents[name] |= holders(connection, index, new)
        for name, uri in set().union(*(by_content[content] for content in new)):
            scope.documents[name].add(uri)


def records_of(connection: Connection, indexes: dict[str, Index], scope: Scope, at: str) -> dict[str, list[Record]]:
    """By index, what the record of erased documents gets: leaves with their contents, and contents without a leaf."""
    leaves: dict[str, set[tuple[str, str, bytes]]] = defaultdict(set)
    for name, index in indexes.items():
        for each in held(connection, index, scope.documents[name]):
            leaves[name].add((each.document, each.content_sha256, each.leaf))
    for name, kind, row in scope.known.rows():
        if kind == "chunks" and row[0] in scope.documents.get(name, ()):
            leaves[name].add((row[0], row[1], leaf(row[0], row[1], row[5])))
    found: dict[str, list[Record]] = {}
    for name, documents in scope.documents.items():
        if not documents:
            continue
        contents = {
            (each.uri, each.content_sha256)
            for each in scope.known.mentions()
            if each.index == name and each.uri in documents
        }
        pairs: list[tuple[str, str, bytes | None]] = [*leaves[name]]
        pairs += [(uri, content, None) for uri, content in contents - {(uri, content) for uri, content, _ in pairs}]
        found[name] = [
            Record(document_hash(uri), value, None if content in NOBODYS else content_key(content), at)
            for uri, content, value in pairs
        ]
        known = scope.erased[name].documents | {record.document_sha256 for record in found[name]}
        found[name] += [
            Record(document_hash(uri), None, None, at) for uri in documents if document_hash(uri) not in known
        ]
    return found


def _condemn(connection: Connection, indexes: dict[str, Index], scope: Scope, parser: str) -> None:
    """From contents to the keys of elements and revisions: those of what goes, and those of what stays."""
    kept: set[tuple[str, str]] = set()
    types, going = set(MEDIA_TYPES), scope.condemned
    for mention in scope.known.mentions():
        types.add(mention.media_type)
        if mention.content_sha256 not in scope.contents:
            kept.add((mention.content_sha256, mention.media_type))
    for _, kind, row in scope.known.rows():
        gone = row[1] in scope.contents
        if kind == "elements" and row[4] != NONE:
            (going.elements if gone else going.known_elements).add(bytes.fromhex(row[4]))
        elif kind == "chunks":
            (going.revisions if gone else going.known_revisions).add(bytes.fromhex(row[3]))
    made_by = scope.known.facts.get("recipe", set()) | set().union(*(recipes(connection, i) for i in indexes.values()))
    for index in indexes.values():
        for content, media_type, key in revisions(connection, index):
            types.add(media_type)
            if content in scope.contents:
                going.revisions.add(key)
            else:
                going.known_revisions.add(key)
                kept.add((content, media_type))
    parsers = scope.known.facts.get("parser", set()) | {parser}
    going.contents |= {bytes.fromhex(content) for content in scope.contents}
    gone_as = [(content, media_type) for content in scope.contents for media_type in types]
    going.elements |= {element_key(*each, by) for each in gone_as for by in parsers}
    going.revisions |= {revision_key(*each, by) for each in gone_as for by in made_by}
    going.known_elements |= {element_key(*each, by) for each in kept for by in parsers}
    going.known_revisions |= {revision_key(*each, by) for each in kept for by in made_by}


def _find_vectors(connection: Connection, indexes: dict[str, Index], workspace: Workspace, scope: Scope) -> None:
    scope.vectors.going |= scope.condemned.chunks  # of an interrupted command, before it was known what they share
    scope.condemned.chunks = set()
    for index in indexes.values():
        scope.vectors.going |= chunk_keys(connection, index, scope.contents)
    paths = workspace.store("chunks").segments()
    scope.vectors.look(scope.condemned, "chunks", paths)


def settle_vectors(connection: Connection, indexes: dict[str, Index], workspace: Workspace, scope: Scope) -> None:
    """Decide which vectors go, after everything was asked which chunks there were: not those that others share."""
    scope.vectors.spare(scope.condemned, workspace.store("chunks").segments())
    for index in indexes.values():
        scope.vectors.going -= shared_chunk_keys(connection, index, scope.vectors.going, scope.contents)
    scope.condemned.chunks = set(scope.vectors.going)


def going_segments(workspace: Workspace, scope: Scope) -> dict[str, list[Path]]:
    """By name of the store, the segments that hold a row that goes."""
    found = {}
    for kind, store in stores(workspace):
        paths = [path for path in store.segments() if scope.condemned.holds(kind, path)]
        if paths:
            found[str(store.directory.relative_to(workspace.root / "data" / "store"))] = paths
    return found


# -- what is left of an interrupted command ----------------------------------------------------------------------------

_SETS = ("elements", "revisions", "chunks")


def _unfinished(workspace: Workspace) -> Path:
    return workspace.state / "erase.json"


def write_unfinished(workspace: Workspace, scope: Scope) -> None:
    """Keep the keys until all is done: from here on there may be nothing left to find them by. No name, no text."""
    keys = {name: sorted(key.hex() for key in getattr(scope.condemned, name)) for name in _SETS}
    value = keys | {
        "contents": sorted(scope.contents),
        "objects": sorted(scope.objects),
        "indexes": sorted(scope.touched),
    }
    atomic_write(_unfinished(workspace), json.dumps(value))


def _read_unfinished(workspace: Workspace, scope: Scope) -> None:
    try:
        value = json.loads(_unfinished(workspace).read_bytes())
    except FileNotFoundError:
        return
    scope.unfinished = True
    scope.contents |= set(value["contents"])
    scope.objects |= set(value["objects"])
    scope.touched |= set(value["indexes"])
    for name in _SETS:
        getattr(scope.condemned, name).update(map(bytes.fromhex, value[name]))


def forget_unfinished(workspace: Workspace) -> None:
    _unfinished(workspace).unlink(missing_ok=True)
