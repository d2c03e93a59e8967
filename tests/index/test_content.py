"""What a document may hold, and what happens to texts that stand in many of them."""

import pytest

from pipelines.index import load
from pipelines.index.catalog import get_index
from pipelines.index.quarantine import listed
from pipelines.model import Quarantined, Reason
from tests.index.state import WORDS, State

NOTICE = "# Notice\n\nAll prices are in euros and include taxes.\n"
HARD = {
    "controls": "bell \x07 escape \x1b[31m null-like \x01 delete \x7f end",
    "spaces": "no-break\u00a0space, thin\u2009space, ideographic\u3000space, line\u2028separator, vertical\x0btab",
    "zero width": "zero\u200bwidth joi\u200dner, bidi \u202eoverride\u202c, BOM \ufeff inside",
    "scripts": "日本語の文章 Ελληνικά עברית العربية हिन्दी 한국어 ไทย",
    "beyond the basic plane": "emoji \U0001f600 joined \U0001f469\u200d\U0001f467 letter \U0001d518 end",
    "combining": "e\u0301cole and école, ﬁne ligatures, ß and ẞ, \u0130stanbul \u0131spanak",
    "syntax": """quotes ' " $$ \\ %s {curly} [square] /etc/passwd x=3.14 a-b_c ERR-4021 user@example.org http://x.y/z""",
    "markup": "tags &amp; <b>bold</b> <script>alert(1)</script> {{template}}",
    "long word": "x" * 3000 + " after the long word",
    "private use and noncharacters": "private \ue000 noncharacter \ufffe \U0010ffff end",
}


def test_a_text_in_many_documents_is_embedded_once_and_found_with_all_of_them(state: State) -> None:
    names = [f"{n:02}/notice.md" for n in range(30)]
    report = state.write(dict.fromkeys(names, NOTICE) | {"other.md": "# Other\n\nNothing alike.\n"}).run()
    assert (report["embedded"], report["chunks"]["total"], report["documents"]["total"]) == (2, 2, 31)
    for mode in ("dense", "lexical", "hybrid"):
        hits = state.search("prices in euros", mode).hits
        assert (hits[0].document, hits[0].also_in) == (names[0], names[1:])
        assert len([hit for hit in hits if "euros" in hit.text]) == 1
        narrow = state.search("prices in euros", mode, filter={"document": "1*/notice.md"}).hits[0]
        assert (narrow.document, narrow.also_in) == (names[10], names[11:20])

    # When the first of them goes, the hit is at the next one.
    state.path(names[0]).unlink()
    assert state.run()["embedded"] == 0
    hit = state.search("prices in euros").hits[0]
    assert (hit.document, hit.also_in) == (names[1], names[2:])
    assert state.search("prices in euros", at=1).hits[0].document == names[0]
    assert state.problems(1) == state.problems(2) == []


@pytest.mark.parametrize("kind", HARD)
def test_any_text_goes_in_comes_out_and_is_found(state: State, kind: str) -> None:
    source = state.write_corpus([{"_id": "hard", "text": f"start {HARD[kind]}"}, {"_id": "easy", "text": "plain"}])
    report = state.run(sources=source)
    assert (report["documents"]["total"], report["documents"]["quarantined"]) == (2, 0)
    assert state.problems() == []
    stored = state.execute(
        "SELECT c.context || ' ' || c.text, l.terms FROM chunk c JOIN lexical l ON l.chunk_id = c.id ORDER BY c.id"
    )
    for text, terms in stored:
        expected = state.execute("SELECT term FROM snapdex.terms('english', %s) ORDER BY 1", text)
        assert [(term,) for term in terms] == expected  # a query for the very text has the terms of the text
    for text, _ in stored:
        if "plain" not in text:
            assert state.search(text, "dense").hits[0].document == "hard"


def test_nul_is_taken_out_and_the_rest_is_found(state: State) -> None:
    state.run(sources=state.write_corpus([{"_id": "nul", "text": "before\x00after the nul character"}]))
    hits = state.search("after the nul character", "lexical").hits
    assert hits[0].document == "nul" and "\x00" not in hits[0].text
    assert state.problems() == []


def test_a_chunk_of_punctuation_alone_is_part_of_the_version(state: State) -> None:
    state.run(sources=state.write_corpus([{"_id": "dots", "text": "... --- ..."}, {"_id": "words", "text": "words"}]))
    assert state.problems() == []
    assert {hit.document for hit in state.search("words", "dense").hits} == {"dots", "words"}


def test_a_query_without_a_known_word_finds_nothing_and_says_so(state: State) -> None:
    state.write({"a.md": NOTICE}).run()
    for query in ("", "the of and", "...", "zzzz"):
        found = state.search(query, "lexical")
        assert (found.abstained, found.hits, found.version) == (True, [], 1)


def test_quarantine_says_what_is_there_now(state: State) -> None:
    """A document that fails again with other bytes counts an attempt; one that recovered or went is not listed."""
    from pipelines.index.quarantine import record

    state.write({"a.md": NOTICE}).run()

    def after(*present: Quarantined) -> list[tuple[str, str, int]]:
        with state.connect() as connection:
            index = get_index(connection, state.name)
            record(connection, index, present)
            return [(row["document"], row["reason"], row["attempts"]) for row in listed(connection, index)]

    first = Quarantined("b.pdf", "1" * 64, Reason.CORRUPT, "cut off")
    assert after(first) == after(first) == [("b.pdf", "corrupt", 1)]
    again = Quarantined("b.pdf", "2" * 64, Reason.ENCRYPTED, "needs a password")
    other = Quarantined("a.zip", "3" * 64, Reason.BOMB, "too large inside")
    assert after(again, other) == [("a.zip", "bomb", 1), ("b.pdf", "encrypted", 2)]
    assert after(other) == [("a.zip", "bomb", 1)]
    assert after() == []


def links(state: State) -> list[str]:
    """Of the graphs there are, as they were built."""
    with state.connect() as connection:
        rows = connection.execute("SELECT reloptions FROM pg_class WHERE relname ~ '^vectors_[0-9]+_graph$'")
        return [each for (options,) in rows.fetchall() for each in options if each.startswith("m=")]


def test_a_graph_that_is_missing_is_built_although_no_vector_is_new(state: State) -> None:
    state.write({f"{word}.md": f"The {word} opens at six.\n" for word in WORDS[:3]})
    state.run()
    state.execute("DROP INDEX vectors_1_graph")
    assert links(state) == []
    state.path(f"{WORDS[0]}.md").unlink()
    state.run()
    assert links(state) == ["m=12"]


def test_a_space_that_outgrows_its_graph_gets_one_with_more_links(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.write({f"{word}.md": f"The {word} opens at six.\n" for word in WORDS})
    state.run()
    assert links(state) == ["m=12"]
    monkeypatch.setattr(load, "MANY_VECTORS", len(WORDS) + 2)
    state.write({"one.md": "One more.\n"})
    state.run()
    assert links(state) == ["m=12"]
    state.write({"two.md": "And another.\n"})
    state.run()
    assert links(state) == ["m=16"]
