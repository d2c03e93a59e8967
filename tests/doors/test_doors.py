"""Whichever way a program comes in, it gets the same answer, and one version of it."""

import threading
from collections.abc import Iterator

import pytest

from tests.doors.ways import Said, Tools, Way, mcp_client, ways
from tests.index.state import State


@pytest.fixture(scope="module")
def doors(handbook: State, client: Tools) -> Iterator[dict[str, Way]]:
    with ways(handbook, client) as opened:
        yield opened


@pytest.mark.parametrize(
    ("mode", "query"),
    [
        ("dense", "how do I fail over the database?"),
        ("lexical", "who hands the rota over"),
        ("hybrid", "what does TM-5013 mean?"),
        ("hybrid", "naïve ☕ \\ 'quotes' \"and\" {braces} -- handover"),
    ],
)
def test_the_same_query_has_the_same_answer_through_every_door(
    handbook: State, doors: dict[str, Way], mode: str, query: str
) -> None:
    answers = {name: way(query, k=7, mode=mode) for name, way in doors.items() if (name, mode) != ("sql", "hybrid")}
    expected = answers["python"]
    assert len(expected.chunks) == len(set(expected.chunks)) == 7
    assert expected.versions == {(2, handbook.version(2).snapshot)}
    assert answers == dict.fromkeys(answers, expected)


def test_no_door_mixes_versions_while_others_are_published(book: State) -> None:
    """Every document of version n says n; the pointer moves all the time, and new versions come in between."""
    pages = [f"{place}.md" for place in ("gate", "tea", "lamp", "well")]

    def publish(number: int) -> None:
        book.write({page: f"# {page[:-3]}\n\nThe {page[:-3]} is open in year {number}.\n" for page in pages}).run()

    publish(1)
    publish(2)
    ended, failures = threading.Event(), list[BaseException]()

    def keep_publishing() -> None:
        newest = 2
        try:
            while not ended.is_set():
                for _ in range(5):
                    book.rollback("v1")
                    book.publish(newest)
                newest += 1
                publish(newest)
        except BaseException as error:
            failures.append(error)
            raise

    seen: dict[str, list[Said]] = {}
    with mcp_client(book) as client, ways(book, client) as doors:
        publisher = threading.Thread(target=keep_publishing)
        publisher.start()
        try:
            for _ in range(2):
                for name, way in doors.items():
                    for place in range(1 if name == "cli" else 8):
                        answer = way(f"when is the gate open {place}", k=4, mode="dense")
                        seen.setdefault(name, []).append(answer)
        finally:
            ended.set()
            publisher.join()
    assert not failures
    snapshots = {version.number: version.snapshot for version in book.versions()}
    assert len(snapshots) > 3, "it was published meanwhile"
    for name, answers in seen.items():
        for answer in answers:
            [(version, snapshot)] = answer.versions
            assert snapshots[version] == snapshot, name
            assert len(answer.texts) == 4, name
            assert all(f"year {version}." in text for text in answer.texts), (name, version, answer.texts)
        assert name == "cli" or len({answer.versions for answer in answers}) > 1, f"{name} saw the pointer move"
