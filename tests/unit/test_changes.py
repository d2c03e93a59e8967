"""What differs between two states of a corpus."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.changes import document_changes

STATES = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("123"))


def test_each_kind_of_change() -> None:
    before = {"same": "1", "edited": "2", "gone": "3", "old name": "4", "original": "5"}
    after = {"same": "1", "edited": "9", "new": "8", "new name": "4", "original": "5", "copy": "5"}
    changes = document_changes(before, after)
    assert changes.modified == ["edited"]
    assert changes.removed == ["gone"]
    assert changes.added == ["copy", "new"]
    assert changes.renamed == [("old name", "new name")]
    assert changes.unchanged == 2


def test_renames_of_equal_content_pair_in_order() -> None:
    changes = document_changes({"b": "1", "a": "1", "c": "1"}, {"y": "1", "x": "1"})
    assert changes.renamed == [("a", "x"), ("b", "y")]
    assert changes.removed == ["c"]
    assert changes.added == []


@given(STATES, STATES)
def test_the_counts_balance_and_the_changes_lead_from_one_state_to_the_other(
    before: dict[str, str], after: dict[str, str]
) -> None:
    changes = document_changes(before, after)
    sources = {old for old, _ in changes.renamed}
    targets = {new for _, new in changes.renamed}
    assert (before.keys() - set(changes.removed) - sources) | set(changes.added) | targets == after.keys()
    moved = len(changes.renamed)
    assert len(before) == changes.unchanged + len(changes.modified) + len(changes.removed) + moved
    assert len(after) == changes.unchanged + len(changes.modified) + len(changes.added) + moved
    assert all(before[old] == after[new] for old, new in changes.renamed)
    assert bool(changes) == (before != after)


@given(STATES, STATES)
def test_the_way_back_is_the_mirror_image(before: dict[str, str], after: dict[str, str]) -> None:
    there, back = document_changes(before, after), document_changes(after, before)
    assert (there.added, there.removed, there.modified) == (back.removed, back.added, back.modified)
    assert sorted((new, old) for old, new in there.renamed) == back.renamed
