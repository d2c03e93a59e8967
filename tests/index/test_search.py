"""Search against references: every distance computed with NumPy, and BM25 written out in Python."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from pipelines.errors import InputError, NotFoundError
from tests.conftest import Databases
from tests.index.state import State

CHUNKS = 6000
K1, B = 1.2, 0.75
CANDIDATES = 3000  # the functions start with the rarest terms, up to so many chunks
COMMON = ["server", "index", "query", "table"]  # each in most chunks
VOCABULARY = [
    f"{first}{second}" for first in "bdfgklmnprstvz" for second in ("ano", "eki", "irut", "olem", "uspa", "yx")
]


def text_of(number: int) -> str:
    """Common words, words by a Zipf law, and one word that three chunks have."""
    source = random.Random(number)
    words = [word for word in COMMON for _ in range(source.randint(0, 3)) if source.random() < 0.8]
    words += [VOCABULARY[min(int(source.paretovariate(0.6)) - 1, len(VOCABULARY) - 1)] for _ in range(8)]
    source.shuffle(words)
    return " ".join([*words, f"rare{number // 3}"])


def record(number: int, text: str | None = None) -> dict[str, object]:
    metadata = {"team": "ops" if number % 100 == 0 else "dev", "year": 2000 + number % 10}
    return {"_id": f"part-{number % 7}/{number:05}", "text": text or text_of(number), "metadata": metadata}


@pytest.fixture(scope="module")
def corpus(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """v1: all chunks. v2: a third of them has another text. v3: every twentieth is left, a small part of the graph."""
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        state = State.make(tmp_path_factory.mktemp("search") / "workspace", url)
        versions = (
            [record(n) for n in range(CHUNKS)],
            [record(n, text_of(n + CHUNKS) if n % 3 == 0 else None) for n in range(CHUNKS)],
            [record(n) for n in range(0, CHUNKS, 20)],
        )
        for records in versions:
            state.run(sources=state.write_corpus(records))
        yield state


@dataclass
class Contents:
    """A version's chunks, read from the tables without any of the search functions."""

    keys: list[str]
    ids: list[int]
    vectors: np.ndarray
    terms: list[dict[int, int]]  # of each chunk: term to occurrences
    documents: list[str]
    metadata: list[Mapping[str, object]]


@pytest.fixture(scope="module")
def contents(corpus: State) -> dict[int, Contents]:
    terms: dict[int, dict[int, int]] = defaultdict(dict)
    for chunk, term, occurrences in corpus.execute(
        "SELECT c.id, t.term, t.occurrences FROM chunk c, snapdex.terms('english', c.context || ' ' || c.text) t"
    ):
        terms[chunk][term] = occurrences
    return {version: _contents(corpus, version, terms) for version in (1, 2, 3)}


def _contents(corpus: State, version: int, terms: Mapping[int, dict[int, int]]) -> Contents:
    rows = corpus.execute(
        "SELECT encode(c.key, 'hex'), c.id, v.embedding::text, m.document, r.metadata FROM membership m"
        " JOIN revision r ON r.id = m.revision_id JOIN occurrence o USING (revision_id)"
        " JOIN chunk c ON c.id = o.chunk_id JOIN vectors_1 v ON v.chunk_id = c.id"
        " WHERE m.from_version <= %s AND m.to_version > %s ORDER BY c.key",
        version,
        version,
    )
    keys, ids, vectors, documents, metadata = map(list, zip(*rows, strict=True))
    parsed = np.array([[float(x) for x in vector[1:-1].split(",")] for vector in vectors])
    return Contents(keys, ids, parsed, [terms[chunk] for chunk in ids], documents, metadata)


def queries(count: int, *, common: int) -> list[str]:
    """Of some rare words and `common` words that most chunks have."""
    source = random.Random(7)
    return [
        " ".join(
            [
                *source.sample(COMMON, common),
                *source.sample(VOCABULARY[3:], source.randint(0, 2)),
                *([f"rare{source.randrange(CHUNKS // 3)}"] if source.random() < 0.7 else []),
                source.choice(VOCABULARY),
            ]
        )
        for _ in range(count)
    ]


# -- dense -------------------------------------------------------------------------------------------------------------


def nearest(contents: Contents, query: Sequence[float]) -> list[tuple[float, str]]:
    """(score, key) of all chunks, best first; equal scores in the order of the keys."""
    vector = np.array(query, dtype=np.float16).astype(np.float64)
    scores = contents.vectors @ vector / np.linalg.norm(contents.vectors, axis=1) / np.linalg.norm(vector)
    return sorted(zip(scores.round(6).tolist(), contents.keys, strict=True), key=lambda row: (-row[0], row[1]))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_exact_search_is_what_numpy_finds(corpus: State, contents: dict[int, Contents], version: int) -> None:
    for query in queries(20, common=1):
        expected = nearest(contents[version], corpus.vector(query))[:25]
        hits = corpus.search(query, "dense", k=25, at=version, exact=True).hits
        assert [hit.score for hit in hits] == pytest.approx([score for score, _ in expected], abs=2e-5)
        clear = {key for score, key in expected if score > expected[-1][0] + 4e-5}
        assert clear <= {hit.chunk for hit in hits} and len({hit.chunk for hit in hits}) == 25
        assert [hit.rank for hit in hits] == list(range(1, 26))


@pytest.mark.parametrize(("version", "by_graph"), [(1, True), (2, True), (3, False)])
def test_the_graph_finds_nearly_all_and_nothing_of_another_version(
    corpus: State, contents: dict[int, Contents], version: int, by_graph: bool
) -> None:
    """v3 is so small a part of the graph that every distance in it is computed instead: recall is 1."""
    before = graph_scans(corpus)
    found = 0
    asked = queries(30, common=1)
    for query in asked:
        expected = nearest(contents[version], corpus.vector(query))
        hits = corpus.search(query, "dense", k=10, at=version).hits
        assert len(hits) == 10 and {hit.chunk for hit in hits} <= set(contents[version].keys)
        found += sum(hit.score > expected[9][0] - 2e-5 for hit in hits)  # as near as the tenth: ties are hits too
    assert found / (10 * len(asked)) >= (0.9 if by_graph else 1.0)
    assert (graph_scans(corpus) > before) == by_graph


def graph_scans(corpus: State) -> int:
    """How often the HNSW index was used, by all that happened before."""
    with corpus.connect() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname = 'vectors_1_graph'"
        ).fetchone()
    assert row is not None
    return int(row[0])


# -- lexical -----------------------------------------------------------------------------------------------------------


def bm25(corpus: State, contents: Contents, query: str) -> dict[str, float]:
    """Key to score of every chunk that holds a term of the query (Robertson and Zaragoza 2009, with +1 in the idf)."""
    average = corpus.index().average_terms
    frequencies = Counter(term for terms in contents.terms for term in terms)
    asked = dict(corpus.execute("SELECT term, occurrences FROM snapdex.terms('english', %s)", query))
    scores: dict[str, float] = {}
    for key, terms in zip(contents.keys, contents.terms, strict=True):
        length = sum(terms.values())
        score = 0.0
        for term in asked.keys() & terms.keys():
            n = frequencies[term]
            idf = math.log(1 + (len(contents.keys) - n + 0.5) / (n + 0.5))
            tf = terms[term] * (K1 + 1) / (terms[term] + K1 * (1 - B + B * length / average))
            score += asked[term] * idf * tf
        if score:
            scores[key] = score
    return scores


def assert_best(hits: Sequence[tuple[str, float]], scores: Mapping[str, float], k: int) -> None:
    """`hits` are the k best of `scores`; equal ones in the order of the keys, and the first of them at the cut."""
    expected = sorted(((key, score) for key, score in scores.items()), key=lambda row: (-round(row[1], 9), row[0]))[:k]
    assert [score for _, score in hits] == pytest.approx([score for _, score in expected], rel=1e-5)
    for (key, score), (wanted, exact) in zip(hits, expected, strict=True):
        # Postgres adds in single precision: where two differ by less, either may come first.
        assert key == wanted or (scores[key] != exact and scores[key] == pytest.approx(score, rel=1e-5))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_lexical_search_is_bm25_of_the_version(corpus: State, contents: dict[int, Contents], version: int) -> None:
    """Also where terms are so common that candidates come from the rarer ones alone, until the scores prove enough."""
    frequencies = Counter(term for terms in contents[version].terms for term in terms)
    partly = 0
    asked = [*queries(25, common=2), *queries(15, common=0), *queries(5, common=4), "server index", *COMMON]
    for query in asked:
        terms = [term for (term,) in corpus.execute("SELECT term FROM snapdex.terms('english', %s)", query)]
        known = sorted(frequencies[term] for term in terms if frequencies[term])
        partly += len(known) > 1 and sum(known) > CANDIDATES
        scores = bm25(corpus, contents[version], query)
        for k in (3, 10):
            hits = corpus.search(query, "lexical", k=k, at=version).hits
            assert_best([(hit.chunk, hit.score) for hit in hits], scores, k)
    assert len(asked) == 50
    assert partly > 25 or version == 3


def test_a_word_that_occurs_in_another_version_only_is_not_found(corpus: State) -> None:
    gone = f"rare{(CHUNKS + 3) // 3}"  # came with v2
    assert corpus.search(gone, "lexical", at=2).hits
    assert corpus.search(gone, "lexical", at=1).abstained and corpus.search(gone, "lexical", at=3).abstained


# -- filters and limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize(
    "wanted",
    [
        {"team": "ops"},
        {"team": "ops", "year": 2000},
        {"document": "part-3/*"},
        {"document": "part-3/0010*"},
        {"document": "part-*/00100", "team": "ops"},
    ],
    ids=str,
)
def test_k_rows_come_back_when_k_exist(
    corpus: State, contents: dict[int, Contents], mode: str, wanted: dict[str, str]
) -> None:
    pattern = wanted.get("document", "*").split("*")
    fields = {key: value for key, value in wanted.items() if key != "document"}
    exist = {
        key
        for key, document, metadata in zip(contents[1].keys, contents[1].documents, contents[1].metadata, strict=True)
        if document.startswith(pattern[0]) and document.endswith(pattern[-1]) and fields.items() <= metadata.items()
    }
    hits = corpus.search("server index query table", mode, k=40, at=1, filter=wanted).hits
    assert {hit.chunk for hit in hits} <= exist
    if mode == "lexical":
        exist &= bm25(corpus, contents[1], "server index query table").keys()
    assert len(hits) == min(40, len(exist)) > 0


def test_a_filter_that_nothing_passes_finds_nothing(corpus: State) -> None:
    for mode in ("dense", "lexical", "hybrid"):
        assert corpus.search("server", mode, filter={"team": "nobody"}).abstained


def test_more_than_there_are(corpus: State, contents: dict[int, Contents]) -> None:
    there = len(contents[3].keys)
    assert len(corpus.search("server", "dense", k=10_000, at=3).hits) == there
    assert len(corpus.search("server index query table", "hybrid", k=10_000, at=3).hits) == there


def test_hybrid_search_is_the_fusion_of_both_legs(corpus: State) -> None:
    query = queries(1, common=1)[0]

    def scaled(mode: str) -> dict[str, float]:
        hits = corpus.search(query, mode, k=100, at=1, exact=True).hits
        low, high = hits[-1].score, hits[0].score
        return {hit.chunk: (hit.score - low) / (high - low) for hit in hits}

    dense, lexical = scaled("dense"), scaled("lexical")
    for weight in (0.0, 0.3, 1.0):
        expected = {
            key: weight * dense.get(key, 0) + (1 - weight) * lexical.get(key, 0)
            for key in dense.keys() | lexical.keys()
        }
        best = sorted(expected.values(), reverse=True)[:10]
        hits = corpus.search(query, "hybrid", k=10, at=1, exact=True, dense_weight=weight).hits
        assert [hit.score for hit in hits] == pytest.approx(best, abs=1e-4)
        assert [hit.score for hit in hits] == pytest.approx([expected[hit.chunk] for hit in hits], abs=1e-4)


def test_rrf_knows_ranks_and_no_scores(corpus: State) -> None:
    query = queries(1, common=1)[0]
    expected: dict[str, float] = defaultdict(float)
    for mode in ("dense", "lexical"):
        for hit in corpus.search(query, mode, k=100, at=1, exact=True).hits:
            expected[hit.chunk] += 1 / (60 + hit.rank)
    best = sorted(expected.items(), key=lambda row: (-row[1], row[0]))[:10]
    for weight in (0.0, 0.7):
        hits = corpus.search(query, at=1, exact=True, fusion="rrf", dense_weight=weight).hits
        assert [hit.chunk for hit in hits] == [key for key, _ in best]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in best])


def test_what_is_refused(corpus: State) -> None:
    for k in (0, -1, 10_001):
        with pytest.raises(InputError, match="k must be between"):
            corpus.search("server", "lexical", k=k)
    with pytest.raises(InputError, match="fusion must be convex or rrf"):
        corpus.search("server", fusion="sum")
    with pytest.raises(InputError, match="the query vector has 32 dimensions, version 3 needs 64"):
        corpus.with_settings("embed.model=hash:32").search("server", "dense")
    with pytest.raises(NotFoundError):
        corpus.search("server", "lexical", at=99)
    with pytest.raises(NotFoundError):
        corpus.with_settings("index.name=nobody").search("server", "lexical")
