"""The fast way of finding words finds what the pattern finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.models.tokens import WORDS, _PatternCounter


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_word_starts_are_those_of_the_pattern(text: str) -> None:
    found = _PatternCounter(WORDS, "").spans(text)
    assert found.dtype == np.int32
    assert found.tolist() == [match.start() for match in WORDS.finditer(text)]
