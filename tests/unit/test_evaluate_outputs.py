"""What evaluate leaves for DVC, and the golden set that it is about."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import GateConfig, SearchConfig
from pipelines.errors import InputError
from pipelines.evaluate import golden_queries, read_golden
from pipelines.evaluate.outputs import (
    BIN_TOKENS,
    conditions,
    golden_sha256,
    histogram,
    percentile,
    read_metrics,
    size_metrics,
    write_metrics,
)
from pipelines.files import Workspace

COUNTS = st.dictionaries(st.integers(0, 600), st.integers(1, 5), min_size=1).map(lambda counts: sorted(counts.items()))


@given(COUNTS, st.sampled_from([5, 50, 95]))
def test_a_percentile_is_what_numpy_says_of_the_sizes_one_by_one(tokens: list[tuple[int, int]], percent: int) -> None:
    sizes = [size for size, count in tokens for _ in range(count)]
    assert percentile(tokens, percent) == int(np.percentile(sizes, percent, method="inverted_cdf"))


@given(COUNTS)
def test_the_histogram_counts_every_chunk_once(tokens: list[tuple[int, int]]) -> None:
    bins = histogram(tokens)
    assert [edge for edge, _ in bins] == [BIN_TOKENS * number for number in range(len(bins))]
    for edge, count in bins:
        assert count == sum(n for size, n in tokens if edge <= size < edge + BIN_TOKENS)


@given(COUNTS, st.integers(0, 20))
def test_sizes(tokens: list[tuple[int, int]], repeated: int) -> None:
    sizes = [size for size, count in tokens for _ in range(count)]
    found = size_metrics(3, len(sizes) + repeated, tokens)
    assert (found["documents"], found["chunks"], found["duplicates"]) == (3, len(sizes), repeated)
    assert found["tokens_mean"] == pytest.approx(statistics.mean(sizes))
    assert found["tokens_max"] == max(sizes)


def test_a_version_without_chunks_has_sizes_too() -> None:
    assert set(size_metrics(0, 0, []).values()) == {0}
    assert histogram([]) == []


def test_files_are_the_same_bytes_whatever_the_order_and_the_clock(tmp_path: Path) -> None:
    per_query = {"7": {"ndcg@10": 1 / 3, "recall@10": 1.0, "mrr@10": 0.5, "precision@5": 0.2}}
    first, second = Workspace(tmp_path / "a"), Workspace(tmp_path / "b")
    write_metrics(first, "i", {"b": 2 / 3, "a": 1, "latency_p50_ms": 8.1}, per_query, [(3, 2), (20, 1)])
    shown = write_metrics(second, "i", {"latency_p50_ms": 9.9, "a": 1, "b": 2 / 3}, per_query, [(3, 2), (20, 1)])
    files = [f"data/metrics/{name}" for name in ("i.json", "i/queries.csv", "i/tokens.csv")]
    assert {str(path.relative_to(first.root)) for path in first.root.rglob("*.*")} == set(files)
    for path in files:
        assert (first.root / path).read_bytes() == (second.root / path).read_bytes()
    assert read_metrics(first, "i") == shown == {"a": 1, "b": 0.666667}
    assert (first.root / files[1]).read_text(
        "utf-8"
    ) == "query,ndcg@10,recall@10,mrr@10\n7,0.333333,1.000000,0.500000\n"
    assert (first.root / files[2]).read_text("utf-8") == "tokens,chunks\n0,2\n16,1\n"


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_metrics_that_cannot_be_read_are_measured_again(tmp_path: Path, content: str) -> None:
    assert read_metrics(Workspace(tmp_path), "i") is None
    (tmp_path / "data/metrics").mkdir(parents=True)
    (tmp_path / "data/metrics/i.json").write_text(content, "utf-8")
    assert read_metrics(Workspace(tmp_path), "i") is None


def test_metrics_say_what_they_are_of(tmp_path: Path) -> None:
    golden = tmp_path / "golden.jsonl"
    golden.write_text("one\n", "utf-8")
    before = conditions("ab" * 32, golden, SearchConfig())
    assert before == {"snapshot": "ab" * 6, "golden": golden_sha256(golden)[:12], "search": "hybrid learned"}
    golden.write_text("two\n", "utf-8")
    assert conditions("ab" * 32, golden, SearchConfig()) != before
    assert conditions("ab" * 32, None, SearchConfig(mode="lexical"))["golden"] == "none"
    assert conditions("ab" * 32, None, SearchConfig(mode="lexical"))["search"] == "lexical"


def test_a_directory_of_golden_files_is_its_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text("q", "utf-8")
    (tmp_path / "qrels/test.tsv").write_text("t", "utf-8")
    before = golden_sha256(tmp_path)
    (tmp_path / "qrels/test.tsv").rename(tmp_path / "qrels/train.tsv")
    assert golden_sha256(tmp_path) != before


@pytest.mark.parametrize("content", ["", "\n", " \r\n"])
def test_a_golden_file_without_a_line_is_no_golden_set(tmp_path: Path, content: str) -> None:
    (tmp_path / "golden.jsonl").write_text(content, "utf-8")
    assert golden_queries(GateConfig(golden="golden.jsonl"), tmp_path) == []
    with pytest.raises(InputError, match="has no query"):
        read_golden(tmp_path / "golden.jsonl")  # where it is asked for by name, it has to be one


def test_a_golden_set_is_found_from_the_workspace(tmp_path: Path) -> None:
    assert golden_queries(GateConfig(), tmp_path) == []
    with pytest.raises(InputError, match="there is no golden set"):
        golden_queries(GateConfig(golden="lost.jsonl"), tmp_path)
    (tmp_path / "golden.jsonl").write_text(json.dumps({"question": "why?", "documents": ["a.md"]}) + "\n", "utf-8")
    assert [query.text for query in golden_queries(GateConfig(golden="golden.jsonl"), tmp_path)] == ["why?"]


def test_a_directory_without_queries_is_refused(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n", "utf-8")
    (tmp_path / "queries.jsonl").write_text("", "utf-8")
    with pytest.raises(InputError, match="has no query"):
        read_golden(tmp_path)
