"""Sentences are ranges of the text: in order, stripped, and nothing but white space is between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ask.sentences import sentences_of, words_of


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences_of(text)]


@given(st.text(alphabet=st.sampled_from(list('aB1 .!?\n-|#。"')) | st.characters(), max_size=80))
def test_nothing_is_lost_or_rewritten(text: str) -> None:
    end = 0
    for first, last in sentences_of(text):
        assert first < last and text[end:first].strip() == "" and text[first:last] == text[first:last].strip()
        end = last
    assert text[end:].strip() == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It works. It is fast!  Is it?", ["It works.", "It is fast!", "Is it?"]),
        ("See e.g. the manual, p. 3 of Dr. Who. Then stop.", ["See e.g. the manual, p. 3 of Dr. Who.", "Then stop."]),
        ("A line\nthat goes on. Next.", ["A line\nthat goes on.", "Next."]),
        ("- one\n- two\n\nAfter", ["- one", "- two", "After"]),
        ("Code | Meaning\nTM-1 | one thing\nTM-2 | another", ["Code | Meaning", "TM-1 | one thing", "TM-2 | another"]),
        ("| a | b |\n|---|---|\n| 1 | 2 |\nText", ["| a | b |", "|---|---|", "| 1 | 2 |", "Text"]),
        ("It costs 1.50 euros in v2.1 only.", ["It costs 1.50 euros in v2.1 only."]),
        ("東京です。大阪です。", ["東京です。", "大阪です。"]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("# Title\nText under it.", ["# Title", "Text under it."]),
    ],
)
def test_where_sentences_end(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


def test_words_are_compared_without_their_endings_and_numbers_stay_whole() -> None:
    assert set(words_of("Retries retried retrying")) == {"retr"}
    assert words_of("The form 10-Q of 2023-06-30 is not v1.5") == ["form", "10-q", "2023-06-30", "not", "v1.5"]
