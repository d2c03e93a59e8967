"""Files that are not what was written: found before any row changes. And disks that are full: nothing is lost."""

import random
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.errors import InputError, IntegrityError, NotFoundError
from pipelines.restore import restore
from tests.conftest import Databases
from tests.faults.bounds import SOAK, say, seed
from tests.faults.driver import perform
from tests.faults.invariants import Witness, check_balance, counts, manifests
from tests.faults.model import Model
from tests.faults.test_failpoints import EDITED, GUIDE, MOVED, forgotten
from tests.index.state import State

RESTORED = ("documents", "chunks", "embeddings")  # the stores that restore reads
KINDS = ("documents", "elements", *RESTORED[1:])
MANIFESTS = ("documents", "elements", "chunks", "embeddings", "snapshot")
RANDOM = 3  # positions of each file beside the named ones
LARGE = {"large.md": "# Large\n\n" + "".join(f"## Part {n}\n\nValve {n * n} of version {n}.\n\n" for n in range(40))}


@pytest.fixture(scope="module")
def written(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """Two versions, and what they need on disk; the first one's segments are needed by the second."""
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        state = State.make(tmp_path_factory.mktemp("damage") / "workspace", url)
        state.become({**GUIDE, **LARGE})
        state.run()
        state.become({**EDITED, **LARGE})
        state.run()
        yield state


def segments(state: State, kind: str) -> list[Path]:
    return sorted((state.root / "data" / "store" / kind).rglob("*.parquet"))


def regions(path: Path) -> dict[str, int]:
    """A position in each part of a segment."""
    size = path.stat().st_size
    metadata = pq.read_metadata(path)
    columns = [metadata.row_group(0).column(at) for at in range(2)]
    footer = int.from_bytes(path.read_bytes()[-8:-4], "little")
    return {
        "first magic": 1,
        "header of the page of keys": columns[0].data_page_offset + 2,
        "page of keys": columns[0].data_page_offset + columns[0].total_compressed_size - 3,
        "header of the page of values": columns[1].data_page_offset + 2,
        "page of values": columns[1].data_page_offset + columns[1].total_compressed_size - 3,
        "schema": size - 8 - footer + 5,
        "middle of the footer": size - 8 - footer // 2,
        "length of the footer": size - 7,
        "last magic": size - 2,
    }


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


class Damaged:
    """Files in `root` that a test damages, and two workspaces in which restore must do nothing with them: one whose
    database has the version, one whose database is empty."""

    def __init__(self, root: Path, held: State, empty: State) -> None:
        self.root, self.held, self.empty = root, held, empty
        self.before = {each.url: counts(each) for each in (empty, held)}
        self.tried = 0

    def refuses(self, what: str, *kinds: type[Exception]) -> None:
        """Into an empty database, and where the version is there already; in `make test` by turns."""
        self.tried += 1
        both = (self.empty, self.held)
        for state in both if SOAK else (both[self.tried % 2],):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SNAPDEX_DATABASE_URL", state.url)
                shutil.rmtree(state.root / "data")
                shutil.copytree(self.root / "data", state.root / "data")
                files = manifests(state)
                with pytest.raises(kinds):
                    restore(state.config, state.workspace)
                    pytest.fail(f"restore took {what} as good")
                assert counts(state) == self.before[state.url], what
                assert manifests(state) == files, what


@pytest.fixture(scope="module")
def damaged(written: State, databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    place = tmp_path_factory.mktemp("damaged")
    shutil.copytree(written.root, place / "source")
    with databases(like=written.url) as held, databases() as empty:
        yield Damaged(place / "source", written.copy(place / "held", held), written.copy(place / "empty", empty))


def changed(damaged: Damaged, path: Path, change: Callable[[Path], object], what: str, *kinds: type[Exception]) -> None:
    """Check with the file changed, then put it back."""
    data = path.read_bytes()
    change(path)
    damaged.refuses(what, *kinds)
    path.write_bytes(data)


@pytest.mark.parametrize("kind", RESTORED)
def test_a_flipped_bit_in_a_segment(kind: str, damaged: Damaged) -> None:
    choose = random.Random(number := seed(20260706))
    for path in segments(State(damaged.root, "", damaged.empty.config), kind):
        places = regions(path)
        for _ in range(RANDOM if not SOAK else 30):
            at = choose.randrange(path.stat().st_size)
            places[f"byte {at}"] = at
        for region, at in places.items():
            bit = choose.randrange(8)
            changed(damaged, path, lambda p, at=at, bit=bit: flip(p, at, bit), f"{kind}: {region}", IntegrityError)
    say(f"{kind}: flipped bits refused ({damaged.tried} kinds of damage so far), seed {number}")


@pytest.mark.parametrize("kind", RESTORED)
def test_a_segment_that_is_short_swapped_empty_or_away(kind: str, damaged: Damaged) -> None:
    first, second, *_ = segments(State(damaged.root, "", damaged.empty.config), kind)
    other = second.read_bytes()
    changes: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
        "one byte short": (lambda p: p.write_bytes(p.read_bytes()[:-1]), IntegrityError),
        "half": (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), IntegrityError),
        "one byte long": (lambda p: p.write_bytes(p.read_bytes() + b"\0"), IntegrityError),
        "empty": (lambda p: p.write_bytes(b""), IntegrityError),
        "another one under its name": (lambda p: p.write_bytes(other), IntegrityError),
        "away": (lambda p: p.unlink(), InputError),
    }
    needed = [path for path in (first, second) if path.stat().st_size == max(p.stat().st_size for p in (first, second))]
    for what, (change, error) in changes.items():
        changed(damaged, needed[0] if what != "another one under its name" else first, change, f"{kind}: {what}", error)


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_that_is_damaged_or_away(kind: str, damaged: Damaged) -> None:
    path = next((damaged.root / "data" / "manifests").rglob(f"{kind}.tsv"))
    choose = random.Random(number := seed(20260707))
    size = path.stat().st_size
    more = [choose.randrange(size) for _ in range(RANDOM if not SOAK else 50)]
    for at in (0, 9, size // 2, size - 70, size - 2, size - 1, *more):
        bit = choose.randrange(7)
        changed(damaged, path, lambda p, at=at, bit=bit: flip(p, at, bit), f"{kind}.tsv: byte {at}", IntegrityError)
    shorter = [lambda p: p.write_bytes(p.read_bytes()[:-1]), lambda p: p.write_bytes(b"")]
    for change in shorter:
        changed(damaged, path, change, f"{kind}.tsv cut short", IntegrityError)
    changed(damaged, path, lambda p: p.unlink(), f"{kind}.tsv away", NotFoundError)
    say(f"{kind}.tsv: refused ({damaged.tried} kinds of damage so far), seed {number}")


@pytest.mark.parametrize("pair", [("chunks", "documents"), ("embeddings", "chunks")])
def test_a_manifest_under_the_name_of_another(pair: tuple[str, str], damaged: Damaged) -> None:
    path, other = (next((damaged.root / "data" / "manifests").rglob(f"{kind}.tsv")) for kind in pair)
    changed(damaged, path, lambda p: p.write_bytes(other.read_bytes()), f"{pair[1]} as {pair[0]}", IntegrityError)


def test_manifests_of_two_versions(written: State, damaged: Damaged, clone: Callable[..., State]) -> None:
    """Each whole, and not made together."""
    other = clone(written)
    other.become({**MOVED, **LARGE})
    other.run()
    path = next((damaged.root / "data" / "manifests").rglob("chunks.tsv"))
    theirs = next((other.root / "data" / "manifests").rglob("chunks.tsv")).read_bytes()
    changed(damaged, path, lambda p: p.write_bytes(theirs), "chunks.tsv of another version", IntegrityError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_needs_a_damaged_entry_stops(kind: str, written: State, clone: Callable[..., State]) -> None:
    """In the middle of the values, where only who reads them sees it; what readers have stays."""
    state = clone(written, empty=kind != "elements")
    if kind == "elements":  # it is read where chunks have to be cut anew
        state = state.with_settings("chunk.max_tokens=24")
    for path in segments(state, kind):
        flip(path, regions(path)["page of values"])
        flip(path, regions(path)["page of keys"])
    before = counts(state)
    with pytest.raises(IntegrityError):
        state.write({"new.md": "# New\n\nSomething that was not there.\n"}).run()
    after = counts(state)
    changing = {"chunk", "occurrence", "revision", "lexical", "vectors_1"}  # rows that no version holds yet
    assert {name: n for name, n in after.items() if name not in changing and n} == {
        name: n for name, n in before.items() if name not in changing and n
    }


# -- no room -----------------------------------------------------------------------------------------------------------


class NoRoom:
    """No file may grow beyond this: as a full disk, writes and `close` fail from there on."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def __call__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size_bytes, self.size_bytes))


@pytest.mark.parametrize("operation", ["run", "restore", "prune"])
def test_a_disk_without_room(operation: str, state: State, clone: Callable[..., State]) -> None:
    """The command fails, nothing that was there is lost, and with room the same command ends as ever."""
    state.become({**GUIDE, **LARGE})
    state.run()
    one = Model().run({**GUIDE, **LARGE})[-1]
    two = one.run({**EDITED, **LARGE})[-1]
    if operation == "prune":
        state.become({**EDITED, **LARGE})
        state.run()
        forgotten(state)
        state.become(MOVED)
        state.run()
        perform(state, "forget")
        possible = two.run(MOVED)[-1].forget()
    else:
        state.become({**EDITED, **LARGE})
        possible = [one, *one.run({**EDITED, **LARGE})] if operation == "run" else [one]
    failed = 0
    for size in range(1, 3000, 50) if SOAK else (1, 500, 900, 1400):
        here = clone(state, empty=operation == "restore")
        kept = set(segments(here, "")) if operation == "run" else set()
        ending = perform(here, operation, before=NoRoom(size))
        if operation == "restore":
            expected = Model().restore({**GUIDE, **LARGE}, 1)
            Witness(here).check(Model(), *expected)
            model = expected[-1]
        else:
            Witness(here).check(*possible)
            model = possible[-1]
        failed += ending.code != 0
        assert kept <= set(segments(here, ""))
        assert list((here.root / "data").rglob(".tmp-*")) == []
        assert perform(here, operation).code == 0
        Witness(here).check(model)
        if operation == "run":
            check_balance(here)
    say(f"{operation}: no room left {failed} times")
    assert failed >= (1 if operation == "prune" else 2)
