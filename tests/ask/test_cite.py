"""A citation holds, or it is not there."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ask.cite import UNSUPPORTED, cite, quoted
from pipelines.ask.conflicts import conflicts_among
from pipelines.ask.extract import best_quotes
from pipelines.ask.passages import source_text
from tests.ask.hits import passages

SHOWN = passages(
    "The standby may lag by 16 MiB. Patroni refuses to promote one that is further behind.",
    "Refunds above 50 euros need a second person. Support pays the rest at once.",
)


def marks(text: str) -> list[str]:
    return re.findall(r"\[(\d+|\?)\]", text)


def test_a_sentence_keeps_the_marker_that_holds() -> None:
    found = cite("A standby may lag by 16 MiB [1].", SHOWN)
    assert found.text == "A standby may lag by 16 MiB [1]."
    (citation,) = found.citations
    assert (citation.marker, citation.document, citation.quote) == ("1", "1.md", "The standby may lag by 16 MiB.")
    assert (citation.start, citation.end) == (100, 130)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("A standby may lag by 64 MiB [1].", ["?"]),  # another number
        ("A standby may lag by 16 MiB [2].", ["1"]),  # the wrong source: the right one is found
        ("A standby may lag by 16 MiB [7].", ["1"]),  # no such source
        ("A standby may lag by 16 MiB.", ["1"]),  # none named
        ("A standby may not lag by 16 MiB [1].", ["?"]),  # the opposite
        ("Patroni was written in Berlin by volunteers [1].", ["?"]),
        ('The page says "a standby must never be promoted" [1].', ["?"]),  # a quotation that is none
        (
            "A standby may lag by 16 MiB. [1] Refunds above 50 euros need a second person [2]. So be it.",
            ["1", "2", "?"],
        ),
        ("Refunds above 50 euros need a second person [1, 2].", ["2"]),
        ("Refunds above 50 euros need a second person [1][2].", ["2"]),
        (
            "Support pays at once unless refunds are above 50 euros: these need a second person [2].",
            ["2"],
        ),  # two of them
    ],
)
def test_what_is_not_said_is_marked(said: str, expected: list[str]) -> None:
    found = cite(said, SHOWN)
    assert marks(found.text) == expected
    assert [each.supported for each in found.sentences] == [mark != UNSUPPORTED.strip("[]") for mark in expected]


def test_the_layout_of_an_answer_stays() -> None:
    said = "Two things:\n\n- a standby may lag by 16 MiB [1]\n- refunds above 50 euros need a second person [2]"
    assert cite(said, SHOWN).text == said.replace("things:", "things: [?]")


texts = st.text(alphabet=st.sampled_from(list("ab 1.!?\n|[]\"'é")), max_size=60)


@given(texts, st.lists(texts, max_size=3))
def test_every_quote_is_a_slice_and_every_marker_has_one(said: str, shown: list[str]) -> None:
    of = passages(*shown)
    found = cite(said, of)
    by_marker = {each.marker: each.hit for each in of}
    for citation in found.citations:
        text = by_marker[citation.marker].text
        assert citation.quote and text[citation.start - 100 : citation.end - 100] == citation.quote
    cited = {citation.marker for citation in found.citations}
    assert cited == {marker for sentence in found.sentences for marker in sentence.markers}


@given(st.text(alphabet=st.sampled_from(list("ab 1.?")), min_size=1, max_size=20), st.lists(texts, max_size=4))
def test_an_extract_is_made_of_slices(question: str, shown: list[str]) -> None:
    found = quoted(best_quotes(question, passages(*shown)))
    assert all(sentence.supported for sentence in found.sentences)
    for citation in found.citations:
        assert citation.quote in shown[int(citation.marker) - 1]
        assert " ".join(citation.quote.split()) in found.text


@pytest.mark.parametrize(
    ("one", "other", "contradict"),
    [
        ("The limit for refunds is 50 euros.", "The limit for refunds is 80 euros.", True),
        ("The limit for refunds is 50 euros.", "The limit for refunds is 50 euros.", False),
        ("The limit for refunds is three days.", "The limit for refunds is 4 days.", True),
        ("The limit for refunds is three days.", "The limit for refunds is 3 days.", False),
        ("The limit for refunds is twenty-five days.", "The limit for refunds is thirty days.", True),
        ("Refunds are paid to the card.", "Refunds are not paid to the card.", True),
        ("The limit for refunds is 50 euros.", "Refunds go to the bank within 3 days, and letters go by post.", False),
        ("Refunds | 1 | 2 | 3 | 4 |", "Refunds | 5 | 6 | 7 | 8 |", False),  # rows of tables differ by right
    ],
)
def test_documents_that_contradict_each_other_are_told(one: str, other: str, contradict: bool) -> None:
    found = conflicts_among("What is the limit for refunds?", passages(one, other))
    assert [each.markers for each in found] == ([("1", "2")] if contradict else [])


def test_the_sentence_that_answers_comes_first() -> None:
    quotes = best_quotes("How much may a standby lag?", SHOWN)
    assert quotes[0].text == "The standby may lag by 16 MiB."


def test_a_row_of_a_table_is_found_by_the_heads_of_its_columns_and_no_head_is_an_answer() -> None:
    table = "| Service | gRPC port | Owner |\n|---|---|---|\n| tallyman | 9150 | billing |\n| booker | 9151 | sales |"
    quotes = best_quotes("What is the gRPC port of tallyman?", passages(table))
    assert quotes[0].text == "| tallyman | 9150 | billing |"


@pytest.mark.parametrize(
    ("said", "source", "supported"),
    [
        ("Refunds above 50 euros don't need a second person.", "Refunds above 50 euros need a second person.", False),
        ("Passwords must be shared by mail.", "Passwords must never be shared by mail.", False),
        ("Nobody may enter the harbour at night.", "Everybody may enter the harbour at night.", False),
        ("The gate opens at nine.", "The gate opens at seven.", False),
        ("The gate opens at 7.", "The gate opens at seven.", True),
        ("The gate opens at 8.", "The gate opens at seven.", False),
        (
            "The queue of the harbour gate holds thirty lorries.",
            "The queue of the harbour gate holds twenty lorries.",
            False,
        ),
        ("A standby may lag by 16 TiB.", "A standby may lag by 16 MiB.", False),
        ("It freezes at 18 degrees in the cellar.", "It freezes at -18 degrees in the cellar.", False),
        ("Growth was 50% of all refunds.", "Growth was 50 euros of all refunds.", False),
        ('The page says "pay always now".', 'The page says "pay never now".', False),
        ("The page says «pay always now».", "The page says pay never now.", False),
        ("The ferry contract does not contain a penalty.", "The ferry contract does not contain a penalty.", True),
        ("Tallyman uses port 8150.", "| Service | HTTP port |\n|---|---|\n| tallyman | 8150 |", True),
        ("The gate opens at seven.", "The gate opens at seven.", True),
    ],
)
def test_numbers_units_quotations_and_denials_count(said: str, source: str, supported: bool) -> None:
    assert [each.supported for each in cite(f"{said[:-1]} [1].", passages(source)).sentences] == [supported]


@pytest.mark.parametrize(
    "form", ["【1】", "[^1]", "[ 1 ]", "[source 1]", "[1,]", "[1-2]", "[1\u20132]", "\uff3b1\uff3d", "[1][?]", "[[1]]"]
)
def test_markers_are_read_in_every_form(form: str) -> None:
    found = cite(f"A standby may lag by 16 MiB {form}.", SHOWN)
    assert marks(found.text) == ["1"] and found.sentences[0].text == "A standby may lag by 16 MiB."


def test_code_and_the_documents_own_brackets_are_no_markers() -> None:
    assert "`args[0]`" in cite("A standby may lag by 16 MiB, see `args[0]` [1].", SHOWN).text
    found = quoted(
        best_quotes("When does the gate open?", passages("The gate opens at six [2], said the master [17]."))
    )
    assert marks(found.text) == ["1"]


def test_no_text_takes_long() -> None:
    """A guard against patterns that look back again and again; each of these took seconds."""
    began = time.perf_counter()
    for text in ("." * 30_000, " " * 30_000 + "x", "A. " * 7000, "[" * 20_000, "[1" * 9000, '"' * 20_001, "`" * 20_001):
        cite(f"A{text}b", SHOWN)
        best_quotes("What?", passages(f"A{text}b"))
    source_text(passages("<" + " " * 100_000)[0])
    assert time.perf_counter() - began < 20
