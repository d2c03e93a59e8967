"""What differs between two states of a corpus. Pure: two mappings in, names out."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Changes:
    """Every URI of either state stands in exactly one place; all lists are in byte order."""

    added: list[str]
    removed: list[str]
    modified: list[str]
    renamed: list[tuple[str, str]]  # from, to: the content is the same
    unchanged: int

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.modified or self.renamed)


def document_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    """What makes `after` of `before`; both map a URI to the hash of its content.

    A removed URI and an added one with the same content are a rename; where several could pair, they do so in sorted
    order. A copy, whose original is still there, is added.
    """
    modified = sorted(uri for uri, content in after.items() if before.get(uri, content) != content)
    gone: dict[str, list[str]] = defaultdict(list)
    for uri in sorted(before.keys() - after.keys(), reverse=True):
        gone[before[uri]].append(uri)
    added, renamed = [], []
    for uri in sorted(after.keys() - before.keys()):
        if candidates := gone.get(after[uri]):
            renamed.append((candidates.pop(), uri))
        else:
            added.append(uri)
    removed = sorted(uri for uris in gone.values() for uri in uris)
    unchanged = len(after) - len(added) - len(renamed) - len(modified)
    return Changes(added, removed, modified, sorted(renamed), unchanged)
