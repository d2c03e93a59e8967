"""A version knows when it has nothing to say: learned before it is published, and the same wherever it goes."""

import json
import random
from typing import Any

import pytest

from pipelines import ingest
from pipelines.embed import encode_query
from pipelines.evaluate.calibration import Evidence, Legs, Scored, fused, learn_threshold, learn_weight
from pipelines.evaluate.golden import Query
from pipelines.index import connect, open_index
from tests.conftest import Databases
from tests.index.state import State

TOPICS = 60


def words(seed: int, count: int = 8) -> list[str]:
    chosen = random.Random(seed)
    return ["".join(chosen.choices("bcdfghklmnprst", k=3)) + chosen.choice("aeiou") * 2 for _ in range(count)]


def question(n: int) -> str:
    """Some words of document `n`, and up to two that no document has."""
    return " ".join([*words(n)[: 3 + n % 5], *words(2000 + n, n % 3)])


FOREIGN = " ".join(words(5000, 4))


@pytest.fixture
def calibrated(state: State) -> State:
    """Documents of words that nothing else has; each is asked for with some of them, and foreign things are asked."""
    state.write({f"{n}.md": f"# Topic {n}\n\n" + " ".join(words(n)) for n in range(TOPICS)})
    asked = [{"question": question(n), "documents": [f"{n}.md"]} for n in range(TOPICS)]
    foreign: list[dict[str, Any]] = [{"question": " ".join(words(1000 + n, 4)), "documents": []} for n in range(10)]
    (state.root / "golden.jsonl").write_text("".join(json.dumps(each) + "\n" for each in asked + foreign), "utf-8")
    return state.with_settings("gate.golden=golden.jsonl", "search.dense_weight=0.5")


def test_foreign_questions_are_refused_and_few_others(calibrated: State) -> None:
    report = calibrated.run()
    assert report["metrics"]["abstain_recall"] >= 0.7
    with open_index(workspace=calibrated.root, config=calibrated.config) as reader:
        foreign = [reader.search(" ".join(words(5000 + n, 4))) for n in range(10)]
        assert sum(each.abstained for each in foreign) >= 6
        assert all(each.hits for each in foreign), "what is nearest is shown, and marked"
        refused = [reader.search(question(n)).abstained for n in range(TOPICS)]
        assert sum(refused) <= 0.05 * (TOPICS + 1)


WAYS: list[dict[str, Any]] = [
    {},
    {"mode": "dense"},
    {"mode": "lexical"},
    {"fusion": "rrf", "k": 1},
    {"mmr": True, "expand": "section"},
    {"filter": {"document": "1*.md"}},
    {"filter": {"title": "Topic 3"}, "mode": "dense", "exact": True},
]


def test_every_way_to_search_abstains_where_any_client_is_told_to(calibrated: State) -> None:
    calibrated.run()
    seen = set()
    with open_index(workspace=calibrated.root, config=calibrated.config) as reader, connect(calibrated.url) as reading:
        reading.execute("SET ROLE snapdex_reader")
        for asked in [FOREIGN, *(" ".join([*words(n)[: n % 4], *words(5000 + n, n % 5)]) for n in range(1, 20))]:
            vector = encode_query(calibrated.config, calibrated.workspace, asked).tolist()
            for way in WAYS:
                given = [str(vector), asked, json.dumps(way.get("filter", {}))]
                told = reading.execute(
                    "SELECT abstained FROM snapdex.evidence('handbook', %s, %s, %s)", given
                ).fetchone()
                assert told == (reader.search(asked, vector=vector, **way).abstained,), (asked, way)
                seen.add(told)
    assert seen == {(True,), (False,)}


def test_what_was_learned_is_kept_for_ever(calibrated: State) -> None:
    calibrated.run()
    before = calibrated.version(1).calibration
    assert before
    (calibrated.root / "golden.jsonl").write_text(json.dumps({"question": "tea?", "documents": ["1.md"]}) + "\n")
    assert not calibrated.run()["published"]
    assert calibrated.version(1).calibration == before


def test_a_rebuilt_database_learns_nothing_anew(
    calibrated: State, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = calibrated.run()
    before = calibrated.version(1)
    with databases() as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        monkeypatch.setattr(ingest, "measure", None)
        again = State(calibrated.root, url, calibrated.config)
        assert again.run()["snapshot"] == first["snapshot"]
        after = again.version(1)
        assert after.calibration == before.calibration
        assert before.metrics and after.metrics
        repeated = {name: each for name, each in before.metrics.items() if "latency" not in name}
        assert after.metrics == pytest.approx(repeated, abs=1e-6)


def test_too_few_questions_promise_nothing(state: State) -> None:
    state.write({"a.md": "# Tea\n\nTea is at four."})
    golden = [{"question": f"tea {n}", "documents": ["a.md"]} for n in range(10)]
    (state.root / "golden.jsonl").write_text("".join(json.dumps(each) + "\n" for each in golden), "utf-8")
    gated = state.with_settings("gate.golden=golden.jsonl")
    gated.run()
    assert not gated.version(1).calibration


def test_the_promise_holds_for_questions_that_were_not_seen() -> None:
    chosen = random.Random(1)

    def evidence() -> Evidence:
        good = chosen.random()
        return Evidence(0.3 + 0.4 * good + chosen.gauss(0, 0.1), 0.2 + 0.6 * good + chosen.gauss(0, 0.1))

    shares = []
    for _ in range(200):
        rule = learn_threshold([evidence() for _ in range(50)], 0.1)
        assert rule
        refused = [
            each.similarity / rule["similarity_spread"] + each.coverage / rule["coverage_spread"] < rule["threshold"]
            for each in (evidence() for _ in range(100))
        ]
        shares.append(sum(refused) / 100)
    assert 0.05 < sum(shares) / len(shares) <= 0.11


# -- the weight --------------------------------------------------------------------------------------------------------


def legs(n: int, dense: str, lexical: str) -> Legs:
    """A question for document `good`; each leg ranks it or `bad` first."""

    def leg(first: str) -> list[Scored]:
        second = "bad" if first == "good" else "good"
        return [Scored(first, [first], "", 0.9), Scored(second, [second], "", 0.5), Scored("x", ["x"], "", 0.1)]

    return Legs(Query(str(n), "?", {"good": 1}), leg(dense), leg(lexical))


def test_fusion_is_turned_off_where_one_leg_is_right() -> None:
    assert learn_weight([legs(n, "good", "bad") for n in range(60)]) == 1.0
    assert learn_weight([legs(n, "bad", "good") for n in range(60)]) == 0.0


def test_fusion_stays_where_each_leg_misses_what_the_other_finds() -> None:
    def miss(n: int) -> Legs:
        far, near = (
            [Scored("bad", ["bad"], "", 0.9)] * 1,
            [Scored("good", ["good"], "", 0.9), Scored("x", ["x"], "", 0)],
        )
        return Legs(Query(str(n), "?", {"good": 1}), far if n % 2 else near, near if n % 2 else far)

    weight = learn_weight([miss(n) for n in range(60)])
    assert weight is not None and 0 < weight < 1


def test_few_questions_teach_no_weight() -> None:
    assert learn_weight([legs(n, "good", "bad") for n in range(49)]) is None


def test_ranking_is_that_of_hybrid_search(state: State) -> None:
    chosen = random.Random(3)
    vocabulary = words(1, 30)
    state.write({f"{n}.md": " ".join(chosen.choices(vocabulary, k=12)) for n in range(40)})
    state.run()
    with open_index(workspace=state.root, config=state.config) as reader:
        for weight in (0.2, 0.5, 0.9):
            config = state.with_settings(f"search.dense_weight={weight}").config
            reader.config = config
            for _ in range(5):
                text = " ".join(chosen.choices(vocabulary, k=3))

                def leg(mode: str, text: str = text) -> list[Scored]:
                    found = reader.search(text, k=100, mode=mode, exact=True)
                    return [Scored(hit.chunk, [hit.document], hit.text, hit.score) for hit in found.hits]

                ours = fused(Legs(Query("1", text, {}), leg("dense"), leg("lexical")), weight)[:10]
                theirs = reader.search(text, k=10, mode="hybrid", exact=True).hits
                assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-5)
