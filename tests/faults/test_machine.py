"""Any sequence of what users do, crashes included, beside the model; I1-I9 after each step."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as from_seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from pipelines.errors import InputError, NotFoundError
from pipelines.index.catalog import get_index
from pipelines.index.history import diff
from pipelines.index.prune import garbage
from tests.faults.bounds import SOAK, rounds, say, seed
from tests.faults.driver import do, import_everything, replace_failpoints
from tests.faults.invariants import Witness, check_balance
from tests.faults.model import NAMES, PARAGRAPHS, Documents, Model, Step, passes, text_of
from tests.faults.test_failpoints import tag_in_git
from tests.index.state import State

TEXTS = st.lists(st.sampled_from(PARAGRAPHS), min_size=1, max_size=3)
NAME = st.sampled_from(NAMES)
EDITS = st.one_of(
    st.tuples(st.just("write"), NAME, TEXTS),
    st.tuples(st.just("delete"), NAME),
    st.tuples(st.just("copy"), NAME, NAME),
    st.tuples(st.just("rename"), NAME, NAME),
    st.tuples(st.just("revert"), st.integers(1, 8)),
)
CRASH = st.one_of(st.none(), st.none(), st.integers(1, 16))  # at the n-th fail point that is reached, whichever it is

Edit = tuple[Any, ...]


class Crash(BaseException):
    """The end of a process, in this one: what it had not committed is lost."""


class Machine(RuleBasedStateMachine):
    url = ""
    steps: ClassVar[Counter[str]] = Counter()
    crashes: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        root = Path(self._directory.name)
        self.state = State.make(
            root / "workspace", self.url, "chunk.max_tokens=16", f"index.name={root.name.lower().strip('_')}"
        )
        self.model = Model()
        self.now: Documents = {}
        self.ever: dict[int, Documents] = {}  # what a number stood for, forgotten or not
        self.recorded: set[int] = set()
        self.lost: set[int] = set()  # recorded, forgotten, and then pruned: the store may lack something
        self.files: tuple[Documents, int] | None = None  # what the manifests of the workspace say, if that is known
        self.stored: set[str] = set()  # texts whose vectors must be in the store

    def teardown(self) -> None:
        self._directory.cleanup()

    @initialize(paragraphs=TEXTS, edits=st.lists(st.lists(EDITS, min_size=1, max_size=3), min_size=1, max_size=3))
    def start(self, paragraphs: list[str], edits: list[list[Edit]]) -> None:
        self.now = {"a.md": text_of(paragraphs)}
        self.state.become(self.now)
        self.state.run()
        self.witness = Witness(self.state)
        self.model = self.witness.check(self.model.run(self.now)[-1])
        self.ever.update(self.model.versions)
        self._ran(self.now, 1)
        for each in edits:
            self._run(each, publish=True, record=True, crash=None)

    # -- documents

    def edit(self, kind: str, *arguments: Any) -> None:
        now = dict(self.now)
        if kind == "write":
            now[arguments[0]] = text_of(arguments[1])
        elif kind == "delete" and len(now) > 1:
            now.pop(arguments[0], None)
        elif kind == "copy" and arguments[0] in now:
            now[arguments[1]] = now[arguments[0]]
        elif kind == "rename" and arguments[0] in now:
            now[arguments[1]] = now.pop(arguments[0])
        elif kind == "revert" and arguments[0] in self.ever:
            now = dict(self.ever[arguments[0]])
        self.now = now

    # -- operations

    @rule(edits=st.lists(EDITS, max_size=3), record=st.booleans(), crash=CRASH)
    def run(self, edits: list[Edit], record: bool, crash: int | None) -> None:
        self._run(edits, publish=True, record=record, crash=crash)

    @rule(edits=st.lists(EDITS, max_size=2), crash=CRASH)
    def build(self, edits: list[Edit], crash: int | None) -> None:
        self._run(edits, publish=False, record=False, crash=crash)

    def _run(self, edits: list[Edit], *, publish: bool, record: bool, crash: int | None) -> None:
        for edit in edits:
            self.edit(*edit)
        self.state.become(self.now)
        planned = self.state.plan()
        before = self.model
        self.files = None
        report = self.do(("run", (publish,)), crash)
        if report is None:
            return
        version = report["version"]
        assert self.model.versions[version] == self.now
        assert (planned["documents"], planned["chunks"]) == (report["documents"], report["chunks"])
        assert planned["to_embed"] == report["embedded"]
        if self.stored.issuperset(self.now.values()):
            assert report["embedded"] == 0
        assert report["published"] == (self.model.moves != before.moves)
        assert report["chunks"]["total"] == self.state.version(version).chunks
        assert bool(report["note"]) == (not report["published"] and version != self.model.active)
        if before.active and version not in before.versions:
            with self.state.connect() as connection:
                index = get_index(connection, self.state.name)
                changes, added, removed = diff(connection, index, before.active, version)
            assert (report["chunks"]["added"], report["chunks"]["removed"]) == (added, removed)
            assert report["documents"]["renamed"] == len(changes.renamed)
        self._ran(self.now, version)
        check_balance(self.state)
        if record and version not in self.recorded:
            tag_in_git(self.state, version)
            self.recorded.add(version)

    def _ran(self, documents: Documents, version: int) -> None:
        self.files = (documents, version)
        self.stored |= set(documents.values())

    @precondition(lambda self: len(self.model.versions) > 1)
    @rule(data=st.data(), crash=CRASH)
    def publish(self, data: st.DataObject, crash: int | None) -> None:
        self.do(("publish", (data.draw(self.inactive()),)), crash)

    @precondition(lambda self: self.model.active)
    @rule(crash=CRASH)
    def rollback(self, crash: int | None) -> None:
        if self.model.before is None:
            with pytest.raises(NotFoundError):
                self.state.rollback()
        else:
            self.do(("rollback", ()), crash)

    @precondition(lambda self: self.model.active and len(self.model.versions) > 1)
    @rule(data=st.data(), crash=CRASH)
    def rollback_to(self, data: st.DataObject, crash: int | None) -> None:
        self.do(("rollback", (data.draw(self.inactive()),)), crash)

    def inactive(self) -> st.SearchStrategy[int]:
        return st.sampled_from([version for version in self.model.versions if version != self.model.active])

    @rule(data=st.data(), kind=st.sampled_from(["tag release", "tag before-migration", "pin", "unpin"]))
    def promise(self, data: st.DataObject, kind: str) -> None:
        """Tag, pin, unpin: as often, together, as each of the other rules."""
        operation, *name = kind.split()
        version = data.draw(st.sampled_from(list(self.model.versions)))
        self.do((operation, (*name, version)), None)

    @precondition(lambda self: len(self.model.versions) > 2)
    @rule(keep_last=st.integers(0, 2), keep_tagged=st.booleans(), crash=CRASH)
    def forget(self, keep_last: int, keep_tagged: bool, crash: int | None) -> None:
        expected = self.model.forgettable(keep_last, keep_tagged)
        plan = self.do(("forget", (keep_last, keep_tagged)), crash)
        assert plan is None or plan.forget == expected

    @precondition(lambda self: len(self.model.versions) > 2)
    @rule(data=st.data(), crash=CRASH)
    def forget_all_but_a_promise(self, data: st.DataObject, crash: int | None) -> None:
        """What people do: pin or tag one, forget the rest, prune."""
        version = data.draw(self.inactive())
        kind = data.draw(st.sampled_from([("pin",), ("tag", "release")]))
        self.do((kind[0], (*kind[1:], version)), None)
        self.forget(0, True, crash)
        self.prune(crash)

    @rule(crash=CRASH)
    def prune(self, crash: int | None) -> None:
        self.lost |= self.recorded - set(self.model.versions)
        live = {text for documents in self.model.versions.values() for text in documents.values()}
        self.stored &= live
        self.do(("prune", ()), crash)
        with self.state.connect() as connection:
            assert garbage(connection, get_index(connection, self.state.name)).rows == 0

    @precondition(lambda self: self.recorded)
    @rule(data=st.data(), crash=CRASH)
    def restore(self, data: st.DataObject, crash: int | None) -> None:
        number = data.draw(st.sampled_from(sorted(self.recorded)))
        documents, self.files = self.ever[number], None
        steps = self.model.restore(documents, number)
        try:
            report = self.do(("restore", (f"v{number}",)), crash, steps)
        except InputError:
            assert number in self.lost
            self.model = self.witness.check(self.model)
        else:
            if report is not None:
                self._ran(documents, report["version"])

    @precondition(lambda self: self.files)
    @rule(crash=CRASH)
    def restore_the_present_files(self, crash: int | None) -> None:
        assert self.files
        documents, number = self.files
        self.do(("restore", ()), crash, self.model.restore(documents, number))

    # -- one step, and what must hold after it

    def do(self, step: Step, crash: int | None, steps: list[Model] | None = None) -> Any:
        """Do it, crash where that is asked for, and check; None after a crash, else what the operation returned."""
        steps = steps or passes(self.model, step, self.now)
        operation, arguments = step
        self.steps[operation] += 1
        reached = 0

        def failpoint(name: str) -> None:
            nonlocal reached
            reached += 1
            if reached == crash:
                self.crashes[name] += 1
                raise Crash(name)

        put_back = replace_failpoints(failpoint)
        result, crashed = None, False
        try:
            result = do(self.state, operation, *arguments)
        except Crash:
            crashed = True
        finally:
            put_back()
        model = self.witness.check(*([self.model, *steps] if crashed else steps[-1:]))
        if crashed and operation in ("run", "forget", "prune", "restore"):  # again: it goes on from there (I8)
            do(self.state, operation, *arguments)
            again = steps if operation == "restore" else passes(model, step, self.now)
            model = self.witness.check(again[-1])
            result = None
        self.model = model
        self.ever.update(model.versions)
        return None if crashed else result


def test_machine(database: str) -> None:
    class OnThisDatabase(Machine):
        url = database
        steps: ClassVar[Counter[str]] = Counter()
        crashes: ClassVar[Counter[str]] = Counter()

    import_everything()
    first, done = seed(20260704), 0
    for turn in rounds(1, seconds=40, soak_share=0.25):
        number = first + turn
        if SOAK:
            say(f"state machine: SNAPDEX_SEED={number}")
        run_state_machine_as_test(
            from_seed(number)(OnThisDatabase),
            settings=settings(
                max_examples=7,
                stateful_step_count=14,
                deadline=None,
                phases=(Phase.generate,),  # shrinking takes minutes, and some steps can be read as they are
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        done += 1
    crashes = OnThisDatabase.crashes
    say(
        f"state machine: seeds {first}..{first + done - 1}, {OnThisDatabase.steps.total()} steps"
        f" {dict(OnThisDatabase.steps)}, {crashes.total()} crashes at {len(crashes)} fail points, 0 violations"
    )
    assert crashes.total() >= 5
