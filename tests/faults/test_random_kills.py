"""A process that runs, publishes, rolls back, forgets and prunes without end, and something that kills it, or what it
talks to, at a random moment. The journal that it keeps says what was acknowledged."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

from pipelines.index.loading import Loading
from pipelines.index.server import EmbeddedServer
from tests.faults.bounds import rounds, say, seed
from tests.faults.driver import Worker, perform, said_so
from tests.faults.invariants import Witness, check_balance
from tests.faults.model import Documents, Model, next_step, passes, text_of
from tests.faults.test_failpoints import MANY
from tests.index.state import State

FIRST = {"a.md": text_of(["What is there before anything is killed."])}


class Trial:
    """A workspace, what it should hold, and processes that work in it until they are stopped."""

    def __init__(self, state: State, number: int) -> None:
        self.state, self.seed = state, number
        self.choose = random.Random(number)
        self.documents: Documents = FIRST
        self.state.become(FIRST)
        assert perform(state, "run").code == 0
        self.model = Model().run(FIRST)[-1]
        self.witness = Witness(state)
        self.witness.check(self.model)
        self.operations = Counter[str]()
        self.ends = Counter[str]()
        self.journal = state.root / "journal"

    def round(self, stop: Callable[[Worker], None]) -> None:
        """Let a process work until `stop` has stopped it; then everything must hold, and running again must help."""
        self.journal.write_text("", "utf-8")
        worker = Worker(self.state, self.choose.randrange(2**31), self.journal, self.model, self.documents)
        began = self.model
        stop(worker)
        ending = worker.end()
        killed = ending.code == -signal.SIGKILL
        assert killed or said_so(ending), f"{self.where}: the process ended with {ending.code}\n{ending.output}"
        self.ends["killed" if killed else "told that the database is away"] += 1
        wait_for_the_database(self.state)
        possible = self._replay(began)
        try:
            self.model = self.witness.check(*possible)
            self.state.become(self.documents)  # the process may have been killed while it wrote them
            again = perform(self.state, "run")
            assert again.code == 0, again.output
            self.model = self.witness.check(self.model.run(self.documents)[-1])
            check_balance(self.state)
        except AssertionError as error:
            raise AssertionError(
                f"{self.where}, {self.journal.read_text('utf-8').splitlines()[-3:]}: {error}"
            ) from error

    @property
    def where(self) -> str:
        return f"SNAPDEX_SEED={self.seed}, round {self.ends.total()}"

    def _replay(self, model: Model) -> list[Model]:
        """What the journal allows: all that was acknowledged, and any part of what was begun last."""
        possible = [model]
        for line in self.journal.read_text("utf-8").splitlines():
            entry = json.loads(line)
            if "documents" in entry:
                self.documents = entry["documents"]
                step = (entry["operation"], tuple(entry["arguments"]))
                possible = [model, *passes(model, step, self.documents)]
                self.operations[entry["operation"]] += 1
            else:
                model = possible[-1]
                possible = [model]
        return possible


def wait_for_the_database(state: State) -> None:
    """Until nobody else is connected: what a killed process had sent is done then, or is not."""
    deadline = time.monotonic() + 30
    with state.connect() as connection:
        while connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone():
            assert time.monotonic() < deadline


def report(what: str, trial: Trial) -> None:
    say(
        f"{what}: seed {trial.seed}, {trial.ends.total()} times ({dict(trial.ends)}), {trial.operations.total()}"
        f" operations {dict(trial.operations)}, {trial.witness.checks} checks, 0 violations"
    )


def test_killed_at_random_times(state: State) -> None:
    trial = Trial(state, seed(20260701))

    def kill(worker: Worker) -> None:
        worker.wait_until_it_works()
        time.sleep(trial.choose.uniform(0, 0.5))  # the moment is what is drawn
        worker.kill()

    for _ in rounds(15, seconds=15, soak_share=0.15):
        trial.round(kill)
    report("kill -9 of the program", trial)
    assert trial.ends["killed"] == trial.ends.total() >= 3


def test_backends_killed_at_random_times(state: State) -> None:
    """`pg_terminate_backend`: the program says so, or has asked again and found out."""
    trial = Trial(state, seed(20260702))

    def cut(worker: Worker) -> None:
        worker.wait_until_it_works()
        with state.connect() as connection:
            while worker.works():
                time.sleep(trial.choose.uniform(0, 0.1))
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )

    for _ in rounds(7, seconds=8, soak_share=0.08):
        trial.round(cut)
    report("pg_terminate_backend", trial)
    assert trial.ends.total() >= 3


def test_postmaster_killed_at_random_times(own_server: EmbeddedServer) -> None:
    """The embedded server recovers by itself; `fsync` is on here."""
    own_server.ensure_running()
    state = State.make(own_server.state.parent / "files", own_server.url)
    (state.root / ".snapdex").symlink_to(own_server.state)
    trial = Trial(state, seed(20260703))

    def crash(worker: Worker) -> None:
        worker.wait_until_it_works()
        time.sleep(trial.choose.uniform(0, 0.4))
        os.kill(int((own_server.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        time.sleep(trial.choose.uniform(0, 0.2))  # it may be the one that starts the server again
        worker.kill()
        own_server.ensure_running()

    for _ in rounds(2, seconds=15, soak_share=0.08):
        trial.round(crash)
    report("kill -9 of the postmaster", trial)


def kill_the_loading_process() -> None:
    """In this process, every one that loads beside it dies before it has answered."""
    real = Loading._answer

    def answer(loading: Loading, step: str) -> int:
        loading.start()
        assert loading._process
        loading._process.kill()
        return real(loading, step)

    Loading._answer = answer  # type: ignore[method-assign]


def test_the_process_that_loads_beside_is_killed(state: State) -> None:
    """As the kernel does where memory is short: the run says so, and the next one goes on from there."""
    state.become(MANY)
    ending = perform(state, "run", before=kill_the_loading_process)
    assert (ending.code, "Traceback" in ending.output) == (75, False), ending.output
    assert perform(state, "run").code == 0
    Witness(state).check(Model().run(MANY)[-1])


def test_the_moment_of_a_kill_is_not_always_the_same() -> None:
    """The choices of a seed are the same each time; two seeds differ."""

    def first(number: int) -> list[object]:
        choose = random.Random(number)
        return [next_step(choose, Model().run(FIRST)[-1], FIRST) for _ in range(5)]

    assert first(1) == first(1) != first(2)
