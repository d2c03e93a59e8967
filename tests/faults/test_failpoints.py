"""Killed at every named fail point: what was acknowledged is there, nothing is half there, and running again ends where
an undisturbed run ends."""

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.failpoints import EXIT_CODE
from tests.faults.bounds import SOAK, say, some
from tests.faults.driver import Ending, perform
from tests.faults.invariants import Witness, check_balance, contents, counts, manifests, store_keys
from tests.faults.model import Documents, Model
from tests.index.state import State

PROJECT = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    "record.": "tests/acceptance/test_record.py",
    "erase.": "tests/index/test_erase.py",
    "finetune.": "tests/training/test_finetune.py",
    "hosted.": "tests/behaviour/test_hosted.py",
    "track.": "tests/tracking/test_replay.py",
}


# -- the names ---------------------------------------------------------------------------------------------------------


def names_in(source: str) -> set[str]:
    """The names of the fail points in a module; an f-string gives a pattern: `prune.{table}_deleted` is one."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "failpoint":
            (argument,) = node.args
            parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
            texts = [str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts]
            assert texts != ["*"], f"the name of a fail point must stand where it is passed: {ast.unparse(node)}"
            found.add("".join(texts))
    return found


NAMES = sorted(
    {name for path in sorted((PROJECT / "pipelines").rglob("*.py")) for name in names_in(path.read_text("utf-8"))}
)
HERE = [name for name in NAMES if not name.startswith(tuple(ELSEWHERE))]


def fits(name: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".+"), name) is not None


# -- the scenarios -----------------------------------------------------------------------------------------------------

GUIDE = {
    "rollback.md": "# Rollback\n\nRolling back a version moves one row.\n\n## Readers\n\nReaders see nothing of it.\n",
    "prune.md": "# Prune\n\nPrune deletes what no version reaches.\n\n## Pins\n\nA pin keeps a version.\n",
    "gate.md": "# Gate\n\nThe gate compares a candidate with the active version.\n",
}
EDITED = {**GUIDE, "rollback.md": "# Rollback\n\nRolling back takes milliseconds, and readers see a version whole.\n"}
MOVED = {"deep/gate.md": EDITED["gate.md"], "rollback.md": EDITED["rollback.md"]}
MANY = {f"{n % 7}/page-{n:03}.md": f"# Page {n}\n\nReaders of version {n} turn valve {n * n}.\n" for n in range(205)}


@dataclass(frozen=True)
class Scenario:
    """A state, and one command there. `steps`: the model before, and those through which the command passes."""

    operation: str
    arguments: tuple[object, ...]
    prepare: Callable[[State], None]
    steps: list[Model]
    empty: bool = False  # the command meets an empty database
    again: int = 0  # exit code of the command after one that had ended
    only: tuple[str, ...] = ()  # beginnings of the names at which it is killed in `make test`; all where this is empty
    last: bool = False  # whether it is killed there too where a point is reached last


def write(documents: Documents) -> Callable[[State], None]:
    return lambda state: state.become(documents)


def after_runs(*each: Documents, then: Callable[[State], None] = lambda state: None) -> Callable[[State], None]:
    def prepare(state: State) -> None:
        for documents in each:
            state.become(documents)
            state.run()
        then(state)

    return prepare


def git(state: State, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments],
        cwd=state.root,
        check=True,
        capture_output=True,
    )


def tag_in_git(state: State, number: int) -> None:
    """What recording does to git, and nothing else of it."""
    version = state.version(number)
    git(state, "init", "--quiet")
    git(state, "add", "--force", "data/manifests")
    git(state, "commit", "--quiet", "--allow-empty", "-m", f"v{version.number}")
    git(state, "tag", f"snapdex/{state.name}/v{version.number}-{version.snapshot[:12]}")


def recorded_then_forgotten(state: State) -> None:
    for documents in (GUIDE, EDITED, MOVED):
        state.become(documents)
        tag_in_git(state, state.run()["version"])
    perform(state, "forget")


def forgotten(state: State) -> None:
    perform(state, "forget", 2)


NOTHING = Model()
ONE = NOTHING.run(GUIDE)[-1]
TWO = ONE.run(EDITED)[-1]
THREE = TWO.run(MOVED)[-1]
LEFT = THREE.forget()[-1]

SCENARIOS: dict[str, Scenario] = {
    "run first": Scenario(
        "run", (), write(GUIDE), [NOTHING, *NOTHING.run(GUIDE)], only=("build.graph", "seal.", "publish.")
    ),
    "run edit": Scenario("run", (), after_runs(GUIDE, then=write(EDITED)), [ONE, *ONE.run(EDITED)], last=True),
    "run delete and rename": Scenario(
        "run", (), after_runs(GUIDE, EDITED, then=write(MOVED)), [TWO, *TWO.run(MOVED)], only=("seal.", "publish.")
    ),
    "run large": Scenario(
        "run", (), after_runs(GUIDE, then=write(MANY)), [ONE, *ONE.run(MANY)], only=("build.revisions", "build.weights")
    ),
    "publish": Scenario("publish", (1,), after_runs(GUIDE, EDITED), [TWO, *TWO.publish(1)], again=5),
    "rollback": Scenario("rollback", ("v1",), after_runs(GUIDE, EDITED), [TWO, *TWO.rollback(1)], again=5),
    "forget": Scenario("forget", (2,), after_runs(GUIDE, EDITED, MOVED), [THREE, *THREE.forget(2)]),
    "prune": Scenario("prune", (), after_runs(GUIDE, EDITED, MOVED, then=forgotten), THREE.forget(2)),
    "restore into nothing": Scenario(
        "restore",
        (),
        after_runs(GUIDE, EDITED),
        [NOTHING, *NOTHING.restore(EDITED, 2)],
        empty=True,
        only=("seal.", "publish.", "restore.", "file."),
    ),
    "restore from git": Scenario(
        "restore", ("v1",), recorded_then_forgotten, [LEFT, *LEFT.restore(GUIDE, 1)], only=("restore.m", "restore.p")
    ),
}


# -- what holds --------------------------------------------------------------------------------------------------------


def test_every_fail_point_is_covered(undisturbed: dict[str, "Undisturbed"]) -> None:
    """Whoever adds one adds a scenario that reaches it, here or in the module that its prefix names."""
    reached = {name for each in undisturbed.values() for name in each.ending.reached}
    forgotten = [name for name in HERE if not any(fits(each, name) for each in reached)]
    assert forgotten == [], "no scenario reaches these fail points"
    unknown = [each for each in reached if not any(fits(each, name) for name in NAMES)]
    assert unknown == []


@pytest.mark.parametrize("prefix", ELSEWHERE)
def test_fail_points_of_other_modules_are_named_there(prefix: str) -> None:
    names = [name for name in NAMES if name.startswith(prefix)]
    module = PROJECT / ELSEWHERE[prefix]
    text = module.read_text("utf-8") if module.exists() else ""
    lacking = [name for name in names if f'"{name.removeprefix(prefix)}"' not in text]
    assert names and lacking == [], f"{ELSEWHERE[prefix]} does not name these"


@dataclass(frozen=True)
class Undisturbed:
    """A scenario that went through."""

    prepared: State
    ending: Ending
    contents: dict[str, object]
    manifests: dict[str, bytes]
    pruned: tuple[dict[str, int], dict[str, set[bytes]]]


@pytest.fixture(scope="module")
def undisturbed(databases, tmp_path_factory):  # type: ignore[no-untyped-def]
    """Every scenario, done once; its state before it is kept, to be copied."""
    done: dict[str, Undisturbed] = {}
    patch = pytest.MonkeyPatch()
    from contextlib import ExitStack

    with ExitStack() as stack:
        stack.callback(patch.undo)
        for name, scenario in SCENARIOS.items():
            root = tmp_path_factory.mktemp("scenario")
            url = stack.enter_context(databases())
            patch.setenv("SNAPDEX_DATABASE_URL", url)
            prepared = State.make(root / "prepared", url)
            scenario.prepare(prepared)
            url = stack.enter_context(databases() if scenario.empty else databases(like=prepared.url))
            patch.setenv("SNAPDEX_DATABASE_URL", url)
            state = prepared.copy(root / "undisturbed", url)
            ending = perform(state, scenario.operation, *scenario.arguments, count=True)
            assert ending.code == 0, f"{name}: {ending.output}"
            Witness(state).check(scenario.steps[-1])
            check_balance(state)
            kept = contents(state), manifests(state)
            done[name] = Undisturbed(prepared, ending, *kept, after_prune(state))
        yield done


def after_prune(state: State) -> tuple[dict[str, int], dict[str, set[bytes]]]:
    """Row counts and store keys once prune has taken what an interruption may have left."""
    assert perform(state, "prune").code == 0
    found = counts(state)
    del found["snapdex.maintenance"]  # an interrupted prune is logged as two
    return found, store_keys(state)


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_each_fail_point(name: str, undisturbed: dict[str, Undisturbed], clone: Callable[..., State]) -> None:
    scenario, expected = SCENARIOS[name], undisturbed[name]
    kills = Counter[str]()
    reached = sorted(expected.ending.reached.items())
    every = [(point, nth) for point, times in reached for nth in range(1, times + 1)]
    bounded = [(point, nth) for point, nth in every if nth == 1 and point.startswith(scenario.only or "")]
    bounded += [(point, times) for point, times in reached if times > 1 and scenario.last]
    for point, nth in some(every, bounded, soak_share=0.015):
        state = clone(expected.prepared, empty=scenario.empty)
        where = f"{name}: SNAPDEX_FAILPOINT={point}:{nth}"
        ending = perform(
            state, scenario.operation, *scenario.arguments, environment={"SNAPDEX_FAILPOINT": f"{point}:{nth}"}
        )
        assert ending.code == EXIT_CODE, f"{where} was not reached: {ending.code} {ending.output}"
        kills[point] += 1
        try:
            wait_for_the_backend(state)
            witness = Witness(state) if manifests(state).keys() >= {"chunks.tsv", "embeddings.tsv"} else None
            left = witness.check(*scenario.steps) if witness else None
            again = perform(state, scenario.operation, *scenario.arguments)
            assert again.code in ((0, scenario.again) if left == scenario.steps[-1] else (0,)), again.output
            (witness or Witness(state)).check(scenario.steps[-1])
            check_balance(state)
            assert contents(state) == expected.contents
            assert manifests(state) == expected.manifests
            if SOAK or kills.total() == 1:  # half a second each
                assert after_prune(state) == expected.pruned
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
    say(f"{name}: killed at {len(kills)} fail points, {kills.total()} times")


def wait_for_the_backend(state: State) -> None:
    """Until the server has noticed that its client is gone: what it was about to commit is committed then, or not."""
    with state.connect() as connection:
        while connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone():
            pass
