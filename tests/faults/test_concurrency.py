"""Many at once: publishers, builders, prune, forget and readers. One order of events comes out of it, and nothing is
missing in it for anybody."""

import importlib
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines import index as public
from pipelines.errors import ConflictError, NotFoundError, SnapdexError
from pipelines.index import search
from pipelines.index.catalog import get_index
from pipelines.index.db import connect, translated_errors
from pipelines.index.prune import prune as prune_rows
from pipelines.index.publish import moves
from tests.conftest import Databases
from tests.faults.bounds import rounds, say, seed
from tests.faults.driver import forget
from tests.faults.invariants import QUERY, Witness
from tests.faults.model import Documents, Model, Move, text_of
from tests.index.state import State

BUILD, PRUNE, SEAL = (importlib.import_module(f"pipelines.index.{name}") for name in ("build", "prune", "seal"))
PUBLISHERS = 20


def documents(number: int, count: int = 8) -> Documents:
    return {
        f"{n}.md": text_of([f"Readers of version {number if n < 3 else 0} see part {n}.", f"Rolling back page {n}."])
        for n in range(count)
    }


@pytest.fixture(scope="module")
def original(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """Versions 1 to 6, each published in its turn."""
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        state = State.make(tmp_path_factory.mktemp("concurrency") / "workspace", url)
        for number in range(1, 7):
            state.become(documents(number))
            state.run()
        yield state


def six() -> Model:
    model = Model()
    for number in range(1, 7):
        model = model.run(documents(number))[-1]
    return model


def at_once(jobs: list[Callable[[], Any]], choose: random.Random, spread: float = 0.02) -> list[Any]:
    """The results of the jobs, or their errors; they start within `spread` seconds of each other."""
    barrier = threading.Barrier(len(jobs))
    pauses = [choose.uniform(0, spread) for _ in jobs]

    def job(number: int) -> Any:
        barrier.wait()
        time.sleep(pauses[number])  # the order is what is drawn
        try:
            return jobs[number]()
        except SnapdexError as error:
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(job, range(len(jobs))))


@contextmanager
def interleaved() -> Iterator[None]:
    """Threads change places a hundred times more often than they do by themselves."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


# -- publishers --------------------------------------------------------------------------------------------------------


def test_twenty_publishers_from_one_base(original: State, clone: Callable[..., State]) -> None:
    """One wins; each other one is told so (exit code 5); the log is one sequence."""
    state = clone(original)
    choose = random.Random(number := seed(20260708))
    model = six()
    witness = Witness(state)
    done = 0
    with ExitStack() as stack:
        for _ in range(PUBLISHERS):  # held open: what is measured is the race, not connecting
            stack.enter_context(connect(state.url))
        for _ in rounds(6, seconds=10, soak_share=0.03):
            epoch = state.index().epoch
            targets = [choose.choice([1, 2, 3, 4, 5, 6]) for _ in range(PUBLISHERS)]
            ends = at_once([lambda v=v, e=epoch: state.publish(v, epoch=e) for v in targets], choose, spread=0.005)
            won = [end for end in ends if isinstance(end, public.Move)]
            lost = [end for end in ends if isinstance(end, ConflictError)]
            assert (len(won), len(lost)) == (1, PUBLISHERS - 1)
            assert {error.exit_code for error in lost} == {5} and all(
                "published by somebody else" in str(e) for e in lost
            )
            (model,) = model.publish(won[0].version)
            done += 1
    assert witness.check(model) == model
    say(f"publishers: {done} races of {PUBLISHERS}, seed {number}")


def test_publishers_against_forget_and_prune(original: State, clone: Callable[..., State]) -> None:
    """A version that forget took cannot be published, one that was published cannot be forgotten, and prune takes
    nothing from under either."""
    choose = random.Random(number := seed(20260709))
    outcomes = Counter[str]()
    done = 0
    for _ in rounds(4, seconds=8, soak_share=0.04):
        state = clone(original)
        witness = Witness(state)

        def reclaim(state: State = state) -> None:
            with state.connect() as connection, translated_errors():
                prune_rows(connection, get_index(connection, state.name))

        def publish(version: int, state: State = state) -> public.Move:
            return state.publish(version)

        jobs: list[Callable[[], Any]] = [lambda v=v: publish(v) for v in choose.sample([1, 2, 3, 4, 5], 4)]
        jobs += [lambda state=state: forget(state, 1), reclaim, reclaim]
        with interleaved():
            ends = at_once(jobs, choose)
        for end in ends:
            assert not isinstance(end, SnapdexError) or isinstance(end, ConflictError | NotFoundError), end
            outcomes[type(end).__name__] += 1
        with state.connect() as connection:
            logged = [Move(each.kind, each.version) for each in moves(connection, state.name)[::-1]]
        acknowledged = {end.version for end in ends if isinstance(end, public.Move)}
        assert acknowledged == {move.version for move in logged[6:]}
        forgotten = next(end for end in ends if hasattr(end, "forget")).forget
        left = {number: each for number, each in six().versions.items() if number not in forgotten}
        witness.check(Model(left, tuple(logged), 6))
        done += 1
    say(f"publishers against forget and prune: {done} interleavings of {len(jobs)}, {dict(outcomes)}, seed {number}")


# -- builders ----------------------------------------------------------------------------------------------------------


def test_builders_against_prune(original: State, clone: Callable[..., State], tmp_path: Path) -> None:
    """Prune in a loop, two machines that build other documents: every version is whole."""
    choose = random.Random(number := seed(20260710))
    state = clone(original)
    witness = Witness(state)
    model = six()
    machines = [State.make(tmp_path / f"machine-{n}", state.url) for n in range(2)]
    done, prunes, given_up = 0, 0, 0
    for turn in rounds(8, seconds=8, soak_share=0.05):
        stop = threading.Event()

        def reclaim(stop: threading.Event = stop) -> int:
            turns = 0
            with connect(state.url) as connection:
                index = get_index(connection, state.name)
                while not stop.is_set():
                    prune_rows(connection, index)
                    turns += 1
            return turns

        contents = [documents(100 + 2 * turn), {**documents(101 + 2 * turn), "own.md": text_of([f"Own {turn}."])}]
        for machine, each in zip(machines, contents, strict=True):
            machine.become(each)
        with interleaved(), ThreadPoolExecutor(1) as pool:
            looping = pool.submit(reclaim)
            try:
                ends = at_once([lambda m=m: m.run(publish=False) for m in machines], choose)
            finally:
                stop.set()
            prunes += looping.result()
        for machine, end, each in zip(machines, ends, contents, strict=True):
            if isinstance(end, ConflictError):  # five times its rows were gone: nothing is sealed, and it says so
                given_up += 1
                end = machine.run(publish=False)
            assert isinstance(end, dict), end
            model = Model({**model.versions, end["version"]: each}, model.moves, max(model.last, end["version"]))
        witness.check(model)
        forget(state)
        model = model.forget()[-1]
        witness.check(model)
        done += 1
    say(f"builders against prune: {2 * done} builds ({given_up} gave up once), {prunes} prunes, seed {number}")


@pytest.mark.parametrize("tables", [1, 2, 3, 4, 5])
def test_prune_between_the_look_and_the_lock(
    tables: int, original: State, clone: Callable[..., State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder has found its revisions and waits for the lock; prune has it, and takes them, table by table."""
    state = clone(original)
    reached = 0

    def prune_a_part() -> None:
        def stop(name: str) -> None:
            nonlocal reached
            reached += re.fullmatch("prune[.][a-z]+_deleted", name) is not None
            if reached == tables:
                raise KeyboardInterrupt

        with state.connect() as connection, pytest.MonkeyPatch.context() as patch:
            patch.setattr(PRUNE, "failpoint", stop)
            with pytest.raises(KeyboardInterrupt):
                prune_rows(connection, get_index(connection, state.name))

    real, looked = SEAL._copy_goal, []

    def look_then_prune(*arguments: Any) -> None:
        real(*arguments)
        if not looked:
            looked.append(True)
            prune_a_part()

    monkeypatch.setattr(SEAL, "_copy_goal", look_then_prune)
    state.become(documents(50))
    assert state.run(publish=False)["version"] == 7
    Witness(state).check(six().run(documents(50), publish=False)[-1])


@pytest.mark.parametrize("after", ["membership", "revision", "occurrence", "chunk"])
def test_prune_waits_for_a_seal(
    after: str, original: State, clone: Callable[..., State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prune is between two tables when a builder seals; it goes on before that is committed, and must not see less."""
    state = clone(original)
    sealed, go_on = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        building: list[Any] = []

        def pause_seal(name: str) -> None:
            if name == "seal.before_commit":
                sealed.set()
                assert go_on.wait(30)

        def seal_meanwhile(name: str) -> None:
            if name == f"prune.{after}_deleted":
                building.append(pool.submit(state.run, publish=False))
                assert sealed.wait(30)

        monkeypatch.setattr(SEAL, "failpoint", pause_seal)
        monkeypatch.setattr(PRUNE, "failpoint", seal_meanwhile)
        state.become(documents(50))
        with state.connect() as connection, state.connect() as watch:
            pruning = pool.submit(prune_rows, connection, get_index(connection, state.name))
            assert sealed.wait(30)
            while not (pruning.done() or watch.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone()):
                time.sleep(0.005)
            go_on.set()
            pruning.result()
        assert building[0].result()["version"] == 7
    Witness(state).check(six().run(documents(50), publish=False)[-1])


def test_another_builder_drops_the_indexes_of_terms(
    original: State, clone: Callable[..., State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has many new chunks, so it makes these indexes anew, while this one has sealed and tidies them up."""
    state = clone(original)
    real = BUILD.merge_new_terms

    def drop_first(*arguments: Any) -> None:
        state.execute("DROP INDEX lexical_terms, lexical_past_terms")
        real(*arguments)

    monkeypatch.setattr(BUILD, "merge_new_terms", drop_first)
    state.become(documents(50))
    assert state.run()["version"] == 7
    monkeypatch.setattr(BUILD, "merge_new_terms", real)
    state.become(documents(51))
    assert state.run()["version"] == 8
    Witness(state).check(six().run(documents(50))[-1].run(documents(51))[-1])
    assert state.execute("SELECT count(*) FROM pg_indexes WHERE indexname ~ '^lexical_.*terms$'") == [(2,)]


def test_two_prunes_at_once(original: State, clone: Callable[..., State]) -> None:
    """Together they do what one does."""
    choose = random.Random(number := seed(20260711))
    alone = clone(original)
    forget(alone)
    with alone.connect() as connection:
        expected = prune_rows(connection, get_index(connection, alone.name)).rows
    done = 0
    for _ in rounds(2, seconds=5, soak_share=0.02):
        state = clone(original)
        forget(state)

        def reclaim(state: State = state) -> int:
            with state.connect() as connection, translated_errors():
                return prune_rows(connection, get_index(connection, state.name)).rows

        ends = at_once([reclaim, reclaim], choose)
        finished = [end for end in ends if isinstance(end, int)]
        assert all(isinstance(end, int | ConflictError) for end in ends), ends
        assert sum(finished) == expected or len(finished) < 2
        Witness(state).check(six().forget()[-1])
        assert reclaim() == 0 or len(finished) < 2
        assert state.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
        done += 1
    say(f"two prunes at once: {done} times, seed {number}")


def test_a_prune_beside_another_one_is_refused(
    original: State, clone: Callable[..., State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take the indexes that the first one is building for remains of one that was killed."""
    state = clone(original)
    forget(state)
    refused = []

    def prune_too(name: str) -> None:
        if name == "prune.deleted":
            with state.connect() as other, pytest.raises(ConflictError) as caught:
                prune_rows(other, get_index(other, state.name))
            refused.append(str(caught.value))

    monkeypatch.setattr(PRUNE, "failpoint", prune_too)
    with state.connect() as connection:
        assert prune_rows(connection, get_index(connection, state.name)).rows > 0
        monkeypatch.setattr(PRUNE, "failpoint", lambda name: None)
        assert prune_rows(connection, get_index(connection, state.name)).rows == 0
    assert len(refused) == 1


# -- readers -----------------------------------------------------------------------------------------------------------


def test_readers_against_forget_and_prune(original: State, clone: Callable[..., State]) -> None:
    """A search of a version that is kept is answered the same way each time, while all others go."""
    choose = random.Random(number := seed(20260712))
    asked = Counter[str]()
    done = 0
    for _ in rounds(2, seconds=8, soak_share=0.05):
        state = clone(original)
        vector = state.vector(QUERY)

        def ask(connection: Any, mode: str, state: State = state, vector: list[float] = vector) -> list[Any]:
            found = search(connection, state.name, QUERY, vector=vector, mode=mode, k=50, exact=True)
            return [found.version, *((hit.document, hit.chunk, hit.score, hit.text) for hit in found.hits)]

        with state.connect() as connection:
            expected = {mode: ask(connection, mode) for mode in ("dense", "lexical", "hybrid")}
        stop = threading.Event()
        wrong: list[str] = []

        def read(
            state: State = state, stop: threading.Event = stop, expected: Any = expected, wrong: Any = wrong
        ) -> None:
            with state.connect() as connection:
                while not stop.is_set():
                    for mode, answer in expected.items():
                        asked[mode] += 1
                        if (found := ask(connection, mode)) != answer:
                            wrong.append(f"{mode}: {len(found)} rows instead of {len(answer)}")

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:

            def reclaim(state: State = state) -> None:
                forget(state)
                with state.connect() as connection, translated_errors():
                    prune_rows(connection, get_index(connection, state.name))

            ends = at_once([reclaim, lambda state=state: forget(state, 3)], choose)
            assert not any(isinstance(end, SnapdexError) for end in ends), ends
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        assert wrong == []
        Witness(state).check(six().forget()[-1])
        done += 1
    say(f"readers against forget and prune: {done} times, {asked.total()} searches, seed {number}")
