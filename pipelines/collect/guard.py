"""What stops a run before it changes anything."""

from collections.abc import Mapping, Sequence

from pipelines.collect.listing import Listing
from pipelines.config import CollectConfig
from pipelines.errors import InputError
from pipelines.model import Quarantined

_INSIST = "check that the source is mounted and complete; to remove them all the same: --allow-mass-delete"


def refuse_same_uris(listings: Sequence[tuple[str, Listing]]) -> None:
    """Raise `InputError` where two sources give a document of the same name: which one is meant cannot be told."""
    if len(listings) < 2:
        return
    owner: dict[str, str] = {}
    for name, listing in listings:
        for entry in listing.entries:
            if other := owner.get(entry.uri):
                raise InputError(
                    f"{other} and {name} both give a document {entry.uri}; nothing was changed",
                    hint="use a directory above both as the one source, so that the paths differ, or drop one of them",
                    uri=entry.uri,
                )
            owner[entry.uri] = name


def refuse_mass_deletion(config: CollectConfig, before: int, removed: int, emptied: Sequence[str]) -> None:
    """Raise `InputError` where a source was emptied, or more is removed than the two limits allow."""
    if emptied:
        raise InputError(
            f"there are no documents left in {', '.join(emptied)}, {removed:,} of {before:,} documents would be "
            "removed; nothing was changed",
            hint=_INSIST,
            removed=removed,
        )
    if removed > config.mass_delete_documents and removed > config.mass_delete_share * before:
        raise InputError(
            f"{removed:,} of {before:,} documents would be removed, more than {config.mass_delete_documents:,} and "
            f"more than {config.mass_delete_share:.0%}; nothing was changed",
            hint=_INSIST,
            removed=removed,
        )


def nothing_found(names: Sequence[str], excluded: Mapping[str, int], quarantined: Sequence[Quarantined]) -> InputError:
    """The error for a run that would leave an index without documents."""
    reasons = [f"{count:,} excluded by {rule}" for rule, count in sorted(excluded.items())]
    reasons += [f"{each.uri} is {each.reason.value}: {each.detail}" for each in quarantined[:1]]
    return InputError(
        f"there are no documents in {', '.join(names)} ({'; '.join(reasons) or 'nothing is there'}); "
        "nothing was changed",
        hint="check collect.sources, collect.include and collect.exclude in params.yaml",
    )
