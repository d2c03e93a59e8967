"""Collect from this machine's files: what is listed, captured, kept, refused."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.collect import CollectReport, local, run, write_documents
from pipelines.config import Config
from pipelines.errors import ConfigError, InputError
from pipelines.files import Workspace
from pipelines.manifests import read_documents
from pipelines.model import Document, Reason
from pipelines.progress import Silent

INDEX = "handbook"


class Place:
    """A workspace with a directory of documents beside it."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root / "workspace")
        self.docs = root / "docs"
        self.docs.mkdir()

    def write(self, name: str, content: str | bytes, age_seconds: int = 60) -> Path:
        """A file that was last written so long ago that its times can be trusted."""
        path = self.docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        then = time.time() - age_seconds
        os.utime(path, (then, then))
        return path

    def run(self, *sources: str, workspace: Workspace | None = None, **given: Any) -> CollectReport:
        config = Config.model_validate({"collect": given.pop("collect", {})})
        return run(config, workspace or self.workspace, sources=list(sources) or [str(self.docs)], **given)

    def documents(self) -> dict[str, Document]:
        return {document.uri: document for document in read_documents(self.workspace, INDEX)}

    def stored(self) -> dict[str, bytes]:
        documents = self.documents()
        keys = {bytes.fromhex(document.content_sha256) for document in documents.values()}
        values = dict(self.workspace.store("documents").read(keys))
        return {uri: values[bytes.fromhex(document.content_sha256)] for uri, document in documents.items()}

    def manifest(self) -> bytes:
        return self.workspace.manifest(INDEX, "documents").read_bytes()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def open_place() -> Iterator[Place]:
    """A place that a user without rights can reach, which pytest's own directories are not."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    yield Place(root)
    shutil.rmtree(root)


@contextmanager
def unprivileged(directory: Path) -> Iterator[None]:
    """Inside, file permissions hold although the tests may be run by root."""
    if os.geteuid() != 0:
        yield
        return
    subprocess.run(["chown", "-R", "65534", str(directory)], check=True)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class AfterListing:
    """Progress that does something once everything is listed and nothing is read yet."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def start(self, stage: str, total: int) -> None:
        self.act()

    def advance(self, count: int = 1) -> None:
        pass


# -- what is collected -------------------------------------------------------------------------------------------------


def test_a_directory_becomes_documents_named_by_relative_path(place: Place) -> None:
    place.write("guide/a b.md", "# A")
    place.write("z.txt", "zzz")
    report = place.run()
    assert (report.total, report.added, report.read, report.unchanged) == (2, 2, 2, 0)
    assert place.stored() == {"guide/a b.md": b"# A", "z.txt": b"zzz"}
    assert place.documents()["guide/a b.md"] == Document(
        "guide/a b.md", hashlib.sha256(b"# A").hexdigest(), 3, "text/markdown"
    )


def test_names_that_are_not_text_survive(place: Place) -> None:
    names = [b"new\nline.md", b"latin-\xe9.md", b"100%41.md", "é.md".encode(), "e\u0301.md".encode()]
    for name in names:
        Path(os.fsdecode(os.fsencode(place.docs) + b"/" + name)).write_bytes(name)
    place.run()
    assert sorted(place.stored().values()) == sorted(names)
    assert set(place.documents()) >= {"new%0Aline.md", "latin-%E9.md", "100%2541.md"}


def test_a_file_is_named_by_its_name(place: Place) -> None:
    place.write("sub/only.md", "x")
    place.run(str(place.docs / "sub" / "only.md"))
    assert place.stored() == {"only.md": b"x"}


def test_a_glob_is_relative_to_its_fixed_directory(place: Place) -> None:
    for name in ("a.md", "x/b.md", "x/y/c.md", "x/d.txt"):
        place.write(name, name)
    place.run(f"{place.docs}/x/**/*.md")
    assert set(place.documents()) == {"b.md", "y/c.md"}
    place.run(f"{place.docs}/*/*", allow_mass_delete=True)
    assert set(place.documents()) == {"x/b.md", "x/d.txt"}


def test_a_directory_whose_name_looks_like_a_glob_is_a_directory(place: Place) -> None:
    place.write("[draft]/a.md", "x")
    place.run(str(place.docs / "[draft]"))
    assert set(place.documents()) == {"a.md"}


def test_relative_sources_begin_at_the_workspace_or_at_the_given_base(place: Place) -> None:
    place.write("a.md", "outer")
    inner = place.workspace.root / "docs"
    inner.mkdir(parents=True)
    (inner / "a.md").write_text("inner")
    config = Config.model_validate({"collect": {"sources": ["docs"]}})
    run(config, place.workspace)
    assert place.stored() == {"a.md": b"inner"}
    run(config, place.workspace, sources=["docs"], base=place.docs.parent)
    assert place.stored() == {"a.md": b"outer"}


def test_excluded_documents_are_counted_by_rule(place: Place) -> None:
    for name in ("a.md", "b.txt", ".hidden", ".git/config", ".git/HEAD", "drafts/c.md"):
        place.write(name, name)
    exclude = [*Config().collect.exclude, "drafts/"]
    report = place.run(collect={"include": ["*.md"], "exclude": exclude})
    assert set(place.documents()) == {"a.md"}
    # A directory is not descended into, so it counts once.
    assert report.excluded == {"**/.*": 2, "drafts/": 1, "not included": 1}


def test_excluding_one_folder_does_not_include_hidden_files(place: Place) -> None:
    for name in ("a.md", ".env", "web/b.html"):
        place.write(name, "text")
    assert place.run(collect={"exclude": ["web/"]}).total == 1
    assert place.run(collect={"hidden": True}).total == 3


def test_an_excluded_directory_need_not_be_readable(open_place: Place) -> None:
    place = open_place
    place.write("a.md", "x")
    (place.docs / ".secret").mkdir(mode=0)
    with unprivileged(place.docs.parent):
        assert place.run().total == 1


def test_equal_bytes_are_stored_once(place: Place) -> None:
    place.write("a.md", "same")
    place.write("b.md", "same")
    place.run()
    assert len(list(place.workspace.store("documents").keys())) == 1
    assert place.stored() == {"a.md": b"same", "b.md": b"same"}


def test_a_large_file_is_stored_whole(place: Place) -> None:
    data = os.urandom(17 * 2**20)
    place.write("big.bin", data)
    place.write("small.md", "x")
    place.run()
    assert place.stored()["big.bin"] == data


def test_a_file_beyond_the_limit_is_quarantined_unread(place: Place) -> None:
    place.write("a.md", "x")
    with (place.docs / "huge.bin").open("wb") as file:
        file.truncate(2**30 + 1)  # sparse: takes no space
    report = place.run()
    assert [(each.uri, each.reason) for each in report.quarantined] == [("huge.bin", Reason.TOO_LARGE)]
    assert report.total == 1


def test_the_manifest_does_not_depend_on_the_order_of_listing_or_on_history(place: Place, tmp_path: Path) -> None:
    for name in ("b.md", "a.md", "c/a.md"):
        place.write(name, name)
    place.run()
    (tmp_path / "other").mkdir()
    second = Place(tmp_path / "other")
    for name in ("zzz.md", "c/a.md", "a.md", "b.md"):
        second.write(name, name)
    second.run()
    (second.docs / "zzz.md").unlink()
    second.run()
    assert second.manifest() == place.manifest()


# -- changes -----------------------------------------------------------------------------------------------------------


def test_a_second_run_reads_nothing(place: Place) -> None:
    for number in range(20):
        place.write(f"{number}.md", str(number))
    place.run()
    before = place.manifest()
    report = place.run()
    assert (report.read, report.unchanged, report.total) == (0, 20, 20)
    assert (report.added, report.removed, report.changed, report.renamed) == (0, 0, 0, 0)
    assert place.manifest() == before


def test_changes_are_counted(place: Place) -> None:
    for name in ("same.md", "edited.md", "gone.md", "old.md"):
        place.write(name, name)
    place.run()
    place.write("edited.md", "other")
    (place.docs / "gone.md").unlink()
    (place.docs / "old.md").rename(place.docs / "new.md")
    place.write("added.md", "added")
    report = place.run()
    assert (report.added, report.removed, report.changed, report.renamed) == (1, 1, 1, 1)
    assert report.total == 4


def test_an_edit_that_hides_in_size_and_mtime_is_noticed(place: Place) -> None:
    path = place.write("a.md", "one")
    place.run()
    status = path.stat()
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert place.run().changed == 1


def test_a_file_written_just_before_it_was_read_is_read_again(place: Place) -> None:
    place.write("old.md", "x")
    place.write("young.md", "x", age_seconds=0)
    place.run()
    assert (place.run().read, place.run(now_ns=lambda: time.time_ns() + 10**10).read) == (1, 1)
    assert place.run().read == 0  # by now it was read long enough after it was written


def test_a_lost_store_is_filled_again_although_no_file_changed(place: Place) -> None:
    place.write("a.md", "x")
    place.run()
    shutil.rmtree(place.workspace.store("documents").directory)
    assert place.run().read == 1
    assert place.stored() == {"a.md": b"x"}


@pytest.mark.parametrize("damage", ["", "#snapdex seen 1\ttime_ns=9\tmedia=x\nrow\n", "\xff"])
def test_a_damaged_memory_only_costs_time(place: Place, damage: str) -> None:
    place.write("a.md", "x")
    place.run()
    (memory,) = (place.workspace.state / "cache" / INDEX).iterdir()
    memory.write_bytes(damage.encode("latin-1"))
    assert place.run().read == 1
    assert place.run().unchanged == 1


def test_a_dry_run_leaves_no_trace(place: Place, tmp_path: Path) -> None:
    place.write("a.md", "x")
    place.run()
    place.write("b.md", "y")

    def everything() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in place.workspace.root.rglob("*") if path.is_file()}

    before = everything()
    report = place.run(workspace=place.workspace.dry(tmp_path / "scratch", INDEX))
    assert (report.added, report.unchanged) == (1, 1)
    assert everything() == before


def test_nothing_to_do_is_quick(place: Place) -> None:
    for number in range(1000):
        place.write(f"{number % 10}/{number}.md", str(number))
    place.run()
    started = time.process_time()  # not the clock on the wall: other work on the machine is not our cost
    place.run()
    assert time.process_time() - started < 0.15


def test_only_what_a_source_needs_is_imported(place: Place) -> None:
    place.write("a.md", "x")
    code = (
        "import sys, pathlib; from pipelines.collect import run; from pipelines.config import Config;"
        "from pipelines.files import Workspace;"
        f"run(Config(), Workspace(pathlib.Path({str(place.workspace.root)!r})), sources=[{str(place.docs)!r}]);"
        "print([m for m in ('fsspec', 'httpx', 'pipelines.collect.git', 'torch', 'prefect') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- what cannot be read -----------------------------------------------------------------------------------------------


def test_permission_denied_is_not_a_deletion(open_place: Place) -> None:
    place = open_place
    place.write("locked.md", "before")
    place.write("open.md", "x")
    with unprivileged(place.docs.parent):
        place.run()
        path = place.write("locked.md", "after")
        path.chmod(0)
        report = place.run()
    assert (report.total, report.removed, report.changed) == (2, 0, 0)
    (failure,) = report.quarantined
    assert (failure.uri, failure.reason) == ("locked.md", Reason.UNREADABLE)
    assert failure.content_sha256 == hashlib.sha256(b"before").hexdigest()
    assert place.stored()["locked.md"] == b"before"


def test_a_new_file_that_cannot_be_read_is_reported_and_not_listed(open_place: Place) -> None:
    place = open_place
    place.write("a.md", "x")
    place.write("locked.md", "x").chmod(0)
    with unprivileged(place.docs.parent):
        report = place.run()
    assert set(place.documents()) == {"a.md"}
    assert [each.uri for each in report.quarantined] == ["locked.md"]


def test_a_file_that_vanishes_after_listing_is_not_a_deletion(place: Place) -> None:
    path = place.write("a.md", "one")
    place.write("b.md", "x")
    place.run()
    place.write("a.md", "other")
    report = place.run(progress=AfterListing(path.unlink))
    assert (report.total, report.removed) == (2, 0)
    assert [each.reason for each in report.quarantined] == [Reason.UNREADABLE]
    assert place.run().removed == 1  # the next listing shows that it is gone


def test_a_file_that_becomes_a_link_after_listing_is_not_followed(place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    path = place.write("a.md", "x")
    place.write("b.md", "x")

    def swap() -> None:
        path.unlink()
        path.symlink_to(secret)

    report = place.run(progress=AfterListing(swap))
    assert [each.uri for each in report.quarantined] == ["a.md"]
    assert b"secret" not in place.stored().values()


@pytest.mark.parametrize(("changes", "settled"), [(3, False), (2, True)])
def test_a_file_that_changes_while_it_is_read(
    place: Place, monkeypatch: pytest.MonkeyPatch, changes: int, settled: bool
) -> None:
    path = place.write("log.md", "before")
    place.run()
    path.write_text("after")
    left = iter(range(changes))
    read = local._read

    def read_while_it_grows(descriptor: int, size_bytes: int) -> bytes:
        data = read(descriptor, size_bytes)
        if next(left, None) is not None:
            with path.open("a") as file:
                file.write("!")
        return data

    with monkeypatch.context() as patch:
        patch.setattr(local, "_read", read_while_it_grows)
        report = place.run()
    if settled:
        assert place.stored()["log.md"] == path.read_bytes()
    else:
        assert [(each.uri, each.reason) for each in report.quarantined] == [("log.md", Reason.UNSTABLE)]
        assert place.stored()["log.md"] == b"before"
        assert place.run().changed == 1


def test_a_directory_that_cannot_be_listed_stops_the_run(open_place: Place) -> None:
    place = open_place
    place.write("a.md", "x")
    place.write("sub/b.md", "y")
    with unprivileged(place.docs.parent):
        place.run()
        before = place.manifest()
        (place.docs / "sub").chmod(0)
        with pytest.raises(InputError, match=r"/sub/? cannot be listed: Permission denied; nothing was changed"):
            place.run()
    assert place.manifest() == before


def test_links_and_special_files(place: Place, tmp_path: Path) -> None:
    place.write("real.md", "real")
    place.write("sub/deep.md", "deep")
    outside = tmp_path / "outside.md"
    outside.write_text("secret")
    (place.docs / "link.md").symlink_to("sub/deep.md")
    (place.docs / "chain.md").symlink_to("link.md")
    (place.docs / "out.md").symlink_to(outside)
    (place.docs / "loop.md").symlink_to("loop.md")
    (place.docs / "gone.md").symlink_to("nothing.md")
    (place.docs / "directory").symlink_to("sub")
    (place.docs / "up").symlink_to("..")
    os.mkfifo(place.docs / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(place.docs / "socket"))
        report = place.run()
    assert set(place.documents()) == {"real.md", "sub/deep.md", "link.md", "chain.md"}
    assert place.stored()["chain.md"] == b"deep"
    assert dict(report.skipped) == {
        "out.md": "link out of the source",
        "loop.md": "link that loops",
        "gone.md": "link to nothing",
        "directory": "link to a directory",
        "up": "link out of the source",
        "fifo": "FIFO",
        "socket": "socket",
    }


def test_a_link_that_is_named_as_the_source_is_followed(place: Place, tmp_path: Path) -> None:
    place.write("a.md", "x")
    (tmp_path / "link").symlink_to(place.docs)
    (tmp_path / "note.md").symlink_to(place.docs / "a.md")
    place.run(str(tmp_path / "link"), str(tmp_path / "note.md"))
    assert set(place.documents()) == {"a.md", "note.md"}


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_crash_leaves_the_old_manifest_and_the_next_run_finishes(place: Place) -> None:
    place.write("a.md", "before")
    place.run()
    before = place.manifest()
    for number in range(5):
        place.write(f"{number}.md", str(number))
    place.write("a.md", "after")

    class DiesWhenHalfIsRead(Silent):
        done = 0

        def advance(self, count: int = 1) -> None:
            self.done += count
            if self.done == 3:
                raise Killed

    with pytest.raises(Killed):
        place.run(progress=DiesWhenHalfIsRead())
    assert place.manifest() == before
    assert place.stored() == {"a.md": b"before"}
    report = place.run()
    assert (report.added, report.changed) == (5, 1)
    assert place.stored()["a.md"] == b"after"


# -- what stops a run --------------------------------------------------------------------------------------------------


def filled(place: Place, count: int) -> bytes:
    for number in range(count):
        place.write(f"{number}.md", str(number))
    place.run()
    return place.manifest()


def test_many_deletions_need_to_be_allowed(place: Place) -> None:
    before = filled(place, 30)
    for number in range(11):
        (place.docs / f"{number}.md").unlink()
    with pytest.raises(InputError, match="11 of 30 documents would be removed") as caught:
        place.run()
    assert "--allow-mass-delete" in caught.value.hint
    assert place.manifest() == before
    assert place.run(allow_mass_delete=True).removed == 11


@pytest.mark.parametrize(("total", "removed"), [(30, 10), (100, 30)])  # few, and a small share
def test_ordinary_deletions_need_not(place: Place, total: int, removed: int) -> None:
    filled(place, total)
    for number in range(removed):
        (place.docs / f"{number}.md").unlink()
    assert place.run().removed == removed


def test_moving_everything_is_not_a_deletion(place: Place) -> None:
    filled(place, 30)
    (place.docs / "archive").mkdir()
    for number in range(30):
        (place.docs / f"{number}.md").rename(place.docs / "archive" / f"{number}.md")
    report = place.run()
    assert (report.renamed, report.removed, report.added) == (30, 0, 0)


def test_an_emptied_source_is_refused_however_small(place: Place) -> None:
    before = filled(place, 2)
    for path in place.docs.iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"no documents left in .*nothing was changed") as caught:
        place.run()
    assert "--allow-mass-delete" in caught.value.hint
    assert place.manifest() == before
    report = place.run(allow_mass_delete=True)
    assert (report.total, report.removed) == (0, 2)


def test_one_emptied_source_of_two_is_refused(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "other.md").write_text("x")
    place.write("a.md", "y")
    sources = (str(place.docs), str(other))
    place.run(*sources)
    (other / "other.md").unlink()
    with pytest.raises(InputError, match=r"no documents left in .*/other,"):
        place.run(*sources)


def test_a_source_that_was_always_empty_stops_nothing(place: Place, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    place.write("a.md", "x")
    path = place.write("b.md", "y")
    place.run(str(place.docs), str(tmp_path / "empty"))
    path.unlink()
    assert place.run(str(place.docs), str(tmp_path / "empty")).removed == 1


def test_a_missing_source_is_always_an_error(place: Place) -> None:
    before = filled(place, 1)
    shutil.rmtree(place.docs)
    for allow in (False, True):
        with pytest.raises(InputError, match=r"does not exist .*nothing was changed") as caught:
            place.run(allow_mass_delete=allow)
        assert "--allow-mass-delete" in caught.value.hint
    with pytest.raises(InputError, match="does not exist"):
        place.run(f"{place.docs}/**/*.md")
    assert place.manifest() == before


def test_a_source_that_is_no_file_is_refused(place: Place) -> None:
    os.mkfifo(place.docs / "fifo")
    with pytest.raises(InputError, match="neither a file nor a directory"):
        place.run(str(place.docs / "fifo"))


def test_finding_nothing_says_what_was_searched_and_why(place: Place) -> None:
    place.write(".hidden", "x")
    place.write("a.txt", "x")
    with pytest.raises(InputError) as caught:
        place.run(collect={"include": ["*.md"]})
    assert str(place.docs) in str(caught.value)
    assert "1 excluded by **/.*" in str(caught.value)
    assert "1 excluded by not included" in str(caught.value)
    assert not place.workspace.manifest(INDEX, "documents").exists()


def test_two_documents_of_one_name_are_refused(place: Place) -> None:
    place.write("x/readme.md", "1")
    place.write("y/readme.md", "2")
    x, y = str(place.docs / "x"), str(place.docs / "y")
    with pytest.raises(InputError) as caught:
        place.run(x, y)
    assert str(caught.value).startswith(f"{x} and {y} both give a document readme.md")
    assert place.run(str(place.docs)).total == 2  # what the hint says helps


def test_no_sources_at_all(place: Place) -> None:
    with pytest.raises(ConfigError, match="no source"):
        run(Config(), place.workspace, sources=[])


# -- back to files -----------------------------------------------------------------------------------------------------


def test_documents_come_back_byte_for_byte(place: Place, tmp_path: Path) -> None:
    names = [b"a.md", b"sub/copy of a.md", b"sub/new\nline\xff.bin", b"100%41.md"]
    for name in names:
        place.write(os.fsdecode(name), b"\x00\r\n" if name.endswith(b".bin") else b"same")
    place.run()
    target = tmp_path / "out"
    assert write_documents(read_documents(place.workspace, INDEX), place.workspace.store("documents"), target) == 4
    subprocess.run(["diff", "-r", place.docs, target], check=True)


def test_writing_into_a_full_directory_has_to_be_forced(place: Place, tmp_path: Path) -> None:
    place.write("a.md", "new")
    place.run()
    rows, store = read_documents(place.workspace, INDEX), place.workspace.store("documents")
    target = tmp_path / "out"
    target.mkdir()
    (target / "a.md").write_text("old, and longer")
    with pytest.raises(InputError, match="is not empty"):
        write_documents(rows, store, target)
    write_documents(rows, store, target, force=True)
    assert (target / "a.md").read_text() == "new"


@pytest.mark.parametrize("uri", ["/etc/passwd", "../a", "a/../../b", "a//b", ".", "", "a/", "a%00b", "%2E%2E%2Fa"])
def test_no_name_leads_out_of_the_directory(place: Place, tmp_path: Path, uri: str) -> None:
    place.write("a.md", "x")
    place.run()
    (row,) = read_documents(place.workspace, INDEX)
    bad = Document(uri, row.content_sha256, 1, "text/plain")
    with pytest.raises(InputError, match="nothing was written"):
        write_documents([row, bad], place.workspace.store("documents"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_link_in_the_directory_leads_out_of_it(place: Place, tmp_path: Path) -> None:
    place.write("sub/a.md", "x")
    place.run()
    outside, target = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    target.mkdir()
    (target / "sub").symlink_to(outside)
    rows, store = read_documents(place.workspace, INDEX), place.workspace.store("documents")
    with pytest.raises(InputError, match="leads out"):
        write_documents(rows, store, target, force=True)
    (target / "sub").unlink()
    (target / "sub").mkdir()
    (target / "sub" / "a.md").symlink_to(outside / "created")
    with pytest.raises(InputError, match="cannot be written"):
        write_documents(rows, store, target, force=True)
    assert list(outside.iterdir()) == []


def test_a_document_and_a_directory_of_one_name_cannot_be_written(place: Place, tmp_path: Path) -> None:
    place.write("a.md", "x")
    place.run()
    (row,) = read_documents(place.workspace, INDEX)
    rows = [Document(uri, row.content_sha256, 1, "text/plain") for uri in ("a", "a/b")]
    with pytest.raises(InputError, match="a is a document and the directory of another one"):
        write_documents(rows, place.workspace.store("documents"), tmp_path / "out")


# -- the command -------------------------------------------------------------------------------------------------------


def command(place: Place, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    place.workspace.root.mkdir(exist_ok=True)
    place.workspace.params.write_text("collect:\n  sources: [../docs]\n")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "pipelines.collect", "--workspace", str(place.workspace.root), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )


def test_the_command_prints_its_report(place: Place) -> None:
    place.write("a.md", "x")
    done = command(place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total"] == 1
    assert json.loads(command(place, "docs/a.md", cwd=place.docs.parent).stdout)["unchanged"] == 0


def test_the_command_says_what_is_wrong_and_what_to_do(place: Place) -> None:
    done = command(place, "nowhere")
    assert done.returncode == 3
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]
    assert command(place, "--set", "collect.nonsense=1").returncode == 2
