"""What becomes of candidates: diversity, near-duplicates, and hits that show more than the chunk that was found."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from pipelines.errors import InputError
from pipelines.index import Hit
from tests.conftest import Databases
from tests.index.state import State

NOTICE = "The cooling of the machine room failed and the operator on call opened both doors"
WORDS = [f"{first}{second}" for first in "bdfgklmnprst" for second in ("ano", "eki", "irut", "olem", "uspa")]


def paragraph(source: random.Random) -> str:
    """Sentences, lines of code, list items or table rows: with one space, or line breaks and indents, in between."""
    words = [" ".join(source.choices(WORDS, k=source.randint(3, 12))) for _ in range(source.randint(1, 6))]
    kind = source.randrange(4)
    if kind == 0:
        return ". ".join(words) + "."
    if kind == 1:
        return "\n".join(f"- {each}" for each in words)
    if kind == 2:
        return "```\n" + "\n    ".join(words) + "\n```"
    return "\n".join(words)


def page(number: int) -> str:
    source = random.Random(number)
    parts = [f"# Page {number}"] if number % 4 else []
    for part in range(source.randint(2, 9)):
        if source.random() < 0.4:
            parts.append("#" * source.randint(2, 3) + f" Part {part} {source.choice(WORDS)}")
        parts.append(paragraph(source))
    return source.choice(["\n\n", "\n\n\n"]).join(parts) + "\n"


PAGES = {f"p{number:02}.md": page(number) for number in range(40)}
NOTICES = {f"notice-{n}.md": f"{NOTICE} {extra}.\n" for n, extra in enumerate(["", "today", "again", "at last"])}
QUERIES = ("page bano leki", "part folem", "the machine room", "dirut guspa manoh teki")


@pytest.fixture(scope="module", params=[0, 8], ids=["plain", "overlapping"])
def corpus(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[State]:
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        root = tmp_path_factory.mktemp("choosing") / "workspace"
        state = State.make(root, url, f"chunk.overlap_tokens={request.param}").write(PAGES | NOTICES)
        state.run()
        yield state


def vectors(corpus: State) -> dict[str, np.ndarray]:
    rows = corpus.execute(
        "SELECT encode(c.key, 'hex'), v.embedding::text FROM chunk c JOIN vectors_1 v ON v.chunk_id = c.id"
    )
    found = {key: np.array([float(x) for x in vector[1:-1].split(",")]) for key, vector in rows}
    return {key: vector / np.linalg.norm(vector) for key, vector in found.items()}


def most_relevant_and_new(hits: Sequence[Hit], vectors: dict[str, np.ndarray], k: int, share: float) -> list[str]:
    low, high = min(hit.score for hit in hits), max(hit.score for hit in hits)
    left, chosen = list(hits), list[str]()

    def worth(hit: Hit) -> float:
        near = max((float(vectors[hit.chunk] @ vectors[other]) for other in chosen), default=0.0)
        return share * (hit.score - low) / (high - low) - (1 - share) * near

    while left and len(chosen) < k:
        best = max(left, key=worth)
        left.remove(best)
        chosen.append(best.chunk)
    return chosen


# -- diversity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_mmr_is_the_formula(corpus: State, mode: str) -> None:
    known = vectors(corpus)
    for query in QUERIES:
        candidates = corpus.search(query, mode, k=40, exact=True).hits
        for share in (0.3, 0.7):
            hits = corpus.search(query, mode, k=10, exact=True, mmr_lambda=share).hits
            assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
            assert [hit.chunk for hit in hits] == most_relevant_and_new(candidates, known, 10, share)
            scores = {hit.chunk: hit.score for hit in candidates}
            assert [hit.score for hit in hits] == [scores[hit.chunk] for hit in hits], "a score stays what it was"


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_what_says_the_same_is_named_by_the_better_hit(corpus: State, mode: str) -> None:
    plain = corpus.search(NOTICE, mode, k=4, exact=True).hits
    assert {hit.document for hit in plain} == NOTICES.keys()
    hits = corpus.search(NOTICE, mode, k=4, exact=True, collapse=0.8).hits
    assert hits[0].chunk == plain[0].chunk
    assert hits[0].similar == sorted(NOTICES.keys() - {hits[0].document})
    assert len(hits) == 4 or mode == "lexical"
    assert not {hit.document for hit in hits[1:]} & NOTICES.keys()


def test_k_different_hits_come_back_when_they_exist(corpus: State) -> None:
    """With a threshold that nearly everything passes, more and more candidates have to be looked at."""
    known = vectors(corpus)
    hits = corpus.search("page", "dense", k=30, exact=True, collapse=0.3).hits
    chosen = [known[hit.chunk] for hit in hits]
    assert all(float(a @ b) < 0.3 + 1e-6 for i, a in enumerate(chosen) for b in chosen[:i])
    every = corpus.search("page", "dense", k=1000, exact=True).hits
    if len(hits) < 30:  # then every other chunk is like one of these
        assert all(max(float(known[hit.chunk] @ vector) for vector in chosen) >= 0.3 - 1e-6 for hit in every)
    assert len(corpus.search("page", "dense", k=1000, exact=True, mmr_lambda=0.5).hits) == len(every)


# -- hits that show more -----------------------------------------------------------------------------------------------


def assert_verbatim(hit: Hit, source: str) -> None:
    """The text stands in the source from `start` to `end`; only which white space is between chunks is not known."""
    there = source[hit.start : hit.end]
    assert len(there) == len(hit.text) and hit.text.split() == there.split()
    assert all(
        ours == theirs or (ours.isspace() and theirs.isspace()) for ours, theirs in zip(hit.text, there, strict=True)
    )
    assert hit.parent[0] <= hit.start < hit.end <= hit.parent[1]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_section_is_the_text_of_its_source(corpus: State, mode: str) -> None:
    sources = PAGES | NOTICES
    for query in QUERIES:
        # What a hybrid search scales by, and so its order, depends on how deep it looks.
        plain = corpus.search(query, mode, k=100 if mode == "hybrid" else 1000, exact=True).hits
        sections = list(dict.fromkeys((hit.revision, hit.parent) for hit in plain))
        k = 5 if mode == "hybrid" else 20
        hits = corpus.search(query, mode, k=k, exact=True, expand="section").hits
        assert [(hit.revision, hit.parent) for hit in hits] == sections[:k]
        best = {(hit.revision, hit.parent): hit for hit in reversed(plain)}
        for hit in hits:
            child = best[hit.revision, hit.parent]
            assert (hit.chunk, hit.score, hit.section) == (child.chunk, child.score, child.section)
            assert_verbatim(hit, sources[hit.document])
            assert sources[hit.document][slice(*hit.parent)].strip() == sources[hit.document][hit.start : hit.end]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_neighbours_are_the_text_around_and_become_one_where_they_touch(corpus: State, mode: str) -> None:
    places: dict[str, list[tuple[int, int, str]]] = {}
    for document, chunk, start, end in corpus.execute(
        "SELECT m.document, encode(c.key, 'hex'), o.start_at, o.end_at FROM membership m JOIN occurrence o"
        " USING (revision_id) JOIN chunk c ON c.id = o.chunk_id ORDER BY m.document, o.ordinal"
    ):
        places.setdefault(document, []).append((start, end, chunk))
    sources = PAGES | NOTICES
    for query in QUERIES:
        hits = corpus.search(query, mode, k=12, exact=True, expand="neighbours").hits
        assert len(hits) == 12 or len(hits) == len(corpus.search(query, mode, k=1000, expand="neighbours").hits)
        assert mode == "hybrid" or hits[0].chunk == corpus.search(query, mode, k=1, exact=True).hits[0].chunk
        for hit in hits:
            assert_verbatim(hit, sources[hit.document])
            chunks = [chunk for _, _, chunk in places[hit.document]]
            at = chunks.index(hit.chunk)
            around = places[hit.document][max(0, at - 1) : at + 2]
            assert hit.start <= around[0][0] and hit.end >= around[-1][1]
        for document in {hit.document for hit in hits}:
            ranges = sorted((hit.start, hit.end) for hit in hits if hit.document == document)
            ordinals = {end: n for n, (_, end, _) in enumerate(places[document])}
            starts = {start: n for n, (start, _, _) in reversed(list(enumerate(places[document])))}
            for (_, end), (start, _) in pairwise(ranges):
                assert starts[start] > ordinals[end] + 1, "ranges that touch are one hit"


def test_collapse_mmr_and_sections_go_together(corpus: State) -> None:
    hits = corpus.search(NOTICE, k=5, exact=True, mmr_lambda=0.7, collapse=0.8, expand="section").hits
    assert hits[0].similar == sorted(NOTICES.keys() - {hits[0].document})
    assert len({(hit.revision, hit.parent) for hit in hits}) == 5


def test_what_is_refused(corpus: State) -> None:
    for wrong in ({"mmr_lambda": 1.5}, {"collapse": -0.1}, {"expand": "page"}, {"k": 1001, "collapse": 0.9}):
        with pytest.raises(InputError, match="must be"):
            corpus.search("machine", "lexical", **wrong)
