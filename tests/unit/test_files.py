"""Stores and manifests: what was written is what is read, also after a crash, also when damaged."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import InputError, IntegrityError, ServiceUnavailable, SnapdexError
from pipelines.files import Manifest, Store, Workspace, atomic_write, read_manifest
from pipelines.model import Parsed, batched, digest, leaf, snapshot_id


def key(number: int) -> bytes:
    return digest(str(number))


def test_a_store_returns_what_was_added_and_keeps_segments_that_are_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.writer() as writer:
        for number in range(100):
            writer.add(key(number), b"%d" % number)
    first = store.segments()
    with store.writer() as writer:
        writer.add(key(100), b"100")
        writer.add(key(100), b"100")
    assert set(first) < set(store.segments())
    assert dict(store.read(key(n) for n in range(101))) == {key(n): b"%d" % n for n in range(101)}
    assert store.missing([key(5), key(500)]) == {key(500)}


def test_rows_in_another_order_give_the_same_segment(tmp_path: Path) -> None:
    names = []
    for place, order in (("a", range(50)), ("b", reversed(range(50)))):
        store = Store(tmp_path / place)
        with store.writer() as writer:
            for number in order:
                writer.add(key(number), b"x" * number)
        names.append([path.name for path in store.segments()])
    assert names[0] == names[1]


def test_finished_rows_are_kept_when_the_work_fails(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.writer() as writer:
        writer.add(key(1), b"paid for")
        raise RuntimeError
    assert store.get(key(1)) == b"paid for"


def test_rows_that_could_not_be_written_are_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the work itself has ended well: whoever goes on takes them for kept."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"), store.writer() as writer:
            writer.add(key(1), b"paid for")
    assert store.missing([key(1)]) == {key(1)}


def test_a_segment_of_which_every_row_stays_is_still_there(tmp_path: Path) -> None:
    """Written again it has the same bytes, and so the same name: it is old and new at once."""
    store = Store(tmp_path)
    for number in range(3):
        with store.writer() as writer:
            writer.add(key(number), b"value")
    before = store.segments()
    for segments in ([before[0]], before[:1]):
        assert store.rewrite(segments, lambda _: True) == []
        assert store.segments() == before
    assert dict(store.read(map(key, range(3)))) == dict.fromkeys(map(key, range(3)), b"value")


def test_a_missing_row_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        list(Store(tmp_path).read([key(1)]))
    assert "dvc pull" in caught.value.hint


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_segment_is_an_integrity_error(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    with store.writer() as writer:
        for number in range(50):
            writer.add(key(number), bytes([number]) * 200)
    path = store.segments()[0]
    data = path.read_bytes()
    path.write_bytes(
        {"cut": data[:-10], "empty": b"", "flip": data[:200] + bytes([data[200] ^ 255]) + data[201:]}[damage]
    )
    with pytest.raises(IntegrityError):
        dict(store.read(key(number) for number in range(50)))


def test_a_dry_run_writes_nothing_outside_its_scratch(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    Manifest("documents", {}, [("a", "1")]).write(workspace.manifest("i", "documents"))
    with workspace.store("chunks").writer() as writer:
        writer.add(key(1), b"old")
    before = {path: path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()}
    dry = workspace.dry(tmp_path / "scratch", "i")
    Manifest("documents", {}, [("b", "2")]).write(dry.manifest("i", "documents"))
    with dry.store("chunks").writer() as writer:
        writer.add(key(2), b"new")
    assert dict(dry.store("chunks").read([key(1), key(2)])) == {key(1): b"old", key(2): b"new"}
    assert {path: path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()} == before


fields = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
    max_size=20,
)


@given(st.lists(st.tuples(fields.filter(bool), fields), unique_by=lambda row: row[0]))
def test_manifests_round_trip_sorted(rows: list[tuple[str, str]]) -> None:
    manifest = Manifest("chunks", {"recipe": "r=1"}, list(rows))
    path = Path(__import__("tempfile").mkdtemp()) / "m.tsv"
    manifest.write(path)
    found = read_manifest(path, "chunks")
    assert found is not None
    assert sorted(found.rows) == sorted(rows)
    assert found.facts == {"recipe": "r=1"}


def test_a_cut_or_foreign_manifest_is_an_integrity_error(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    Manifest("chunks", {}, [("a", "b")]).write(path)
    text = path.read_text("utf-8")
    for damaged in (text[:-1], text.replace("chunks 1", "chunks 9"), "", "junk\n"):
        path.write_text(damaged, "utf-8")
        with pytest.raises(IntegrityError):
            read_manifest(path, "chunks")
    assert read_manifest(tmp_path / "absent.tsv", "chunks") is None


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    atomic_write(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, "new")
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5)), max_size=8), st.randoms())
def test_a_snapshot_id_depends_on_content_and_not_on_order(rows: list[tuple[str, str, str]], chance: object) -> None:
    leaves = [leaf(*row) for row in rows]
    shuffled = sorted(leaves, key=lambda each: digest(each, "other order"))
    assert snapshot_id("r", "s", leaves) == snapshot_id("r", "s", shuffled)
    assert snapshot_id("r", "s", leaves) != snapshot_id("q", "s", leaves)
    assert snapshot_id("r", "s", leaves) != snapshot_id("r", "t", leaves)
    assert snapshot_id("r", "s", leaves) != snapshot_id("r", "s", [*leaves, leaf("u", "c", "h")])


def test_length_prefixes_keep_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]


def test_errors_survive_pickling_with_their_type() -> None:
    import pickle

    error = ServiceUnavailable("no answer", hint="wait", place="here")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ServiceUnavailable)
    assert (str(again), again.hint, again.context, again.exit_code, again.retryable) == (
        "no answer",
        "wait",
        {"place": "here"},
        75,
        True,
    )
    assert {kind.exit_code for kind in SnapdexError.__subclasses__()} == {2, 3, 4, 5, 6, 7, 75}


def test_parsed_documents_round_trip() -> None:
    parsed = Parsed("text ☃", (), "T", {"a": 1, "b": 1.5, "c": True, "d": "x"}, ("nul_removed",))
    assert Parsed.from_json(parsed.to_json()) == parsed
