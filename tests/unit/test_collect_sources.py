"""Collect from a BEIR corpus, from git, and through fsspec."""

import json
import os
import signal
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipelines.collect import CollectReport, parse_source, run
from pipelines.config import Config
from pipelines.errors import ConfigError, InputError, ServiceUnavailable
from pipelines.files import Workspace
from pipelines.manifests import read_documents


@dataclass(frozen=True)
class Corpus:
    """A workspace that collects from one source."""

    workspace: Workspace

    def run(self, *sources: str, **given: Any) -> CollectReport:
        config = Config.model_validate({"collect": given.pop("collect", {})})
        return run(config, self.workspace, sources=list(sources), **given)

    def contents(self) -> dict[str, bytes]:
        documents = read_documents(self.workspace, "handbook")
        keys = {document.uri: bytes.fromhex(document.content_sha256) for document in documents}
        values = dict(self.workspace.store("documents").read(set(keys.values())))
        return {uri: values[key] for uri, key in keys.items()}

    def media_types(self) -> set[str]:
        return {document.media_type for document in read_documents(self.workspace, "handbook")}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(Workspace(tmp_path / "workspace"))


# -- BEIR --------------------------------------------------------------------------------------------------------------


def beir(path: Path, *records: Mapping[str, object] | str) -> str:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def test_each_line_of_a_beir_corpus_is_a_document(corpus: Corpus, tmp_path: Path) -> None:
    first = {"_id": "doc/1", "title": "T", "text": "one"}
    source = beir(tmp_path / "corpus.jsonl", first, "", {"_id": 2, "text": "two"}, {"_id": "a\tb", "text": "three"})
    report = corpus.run(source)
    assert report.total == 3
    assert corpus.contents()["doc/1"] == json.dumps(first).encode()
    assert set(corpus.contents()) == {"doc/1", "2", "a%09b"}
    assert corpus.media_types() == {"application/x-beir+json"}


def test_an_edit_of_one_line_is_one_change(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    records = [{"_id": str(number), "text": f"text {number}"} for number in range(20)]
    corpus.run(beir(path, *records))
    records[3]["text"] = "a longer text, so that all later lines move"
    report = corpus.run(beir(path, *records))
    assert (report.changed, report.read, report.unchanged) == (1, 1, 19)


@pytest.mark.parametrize(
    "line",
    ["not json", '{"_id": "x"}', '{"text": "x"}', "[1]", '{"_id": true, "text": "x"}', '{"_id": "", "text": ""}'],
)
def test_a_malformed_line_is_named(corpus: Corpus, tmp_path: Path, line: str) -> None:
    source = beir(tmp_path / "corpus.jsonl", {"_id": "1", "text": "x"}, "", line)
    with pytest.raises(InputError, match=r"corpus\.jsonl: line 3 ") as caught:
        corpus.run(source)
    assert caught.value.context["line"] == 3


def test_two_lines_with_one_id_are_named(corpus: Corpus, tmp_path: Path) -> None:
    source = beir(tmp_path / "corpus.jsonl", *({"_id": name, "text": name} for name in "abca"))
    with pytest.raises(InputError, match="lines 1 and 4 have the same _id a"):
        corpus.run(source)


def test_a_lone_surrogate_in_an_id_is_encoded(corpus: Corpus, tmp_path: Path) -> None:
    corpus.run(beir(tmp_path / "corpus.jsonl", '{"_id": "\\ud800", "text": "x"}'))
    assert set(corpus.contents()) == {"%ED%A0%80"}


def test_other_jsonl_files_are_one_document(corpus: Corpus, tmp_path: Path) -> None:
    corpus.run(beir(tmp_path / "log.jsonl", {"event": "x"}, {"event": "y"}))
    assert set(corpus.contents()) == {"log.jsonl"}
    docs = tmp_path / "docs"
    docs.mkdir()
    beir(docs / "corpus.jsonl", {"_id": "1", "text": "x"}, {"_id": "2", "text": "y"})
    corpus.run(str(docs))
    assert set(corpus.contents()) == {"corpus.jsonl"}  # taken apart only where it is the source itself
    assert corpus.media_types() == {"text/plain"}


def test_a_beir_corpus_is_read_quickly(corpus: Corpus, tmp_path: Path) -> None:
    text = "some words of a passage " * 400  # ten chunks
    source = beir(tmp_path / "corpus.jsonl", *({"_id": str(n), "text": f"{n} {text}"} for n in range(2000)))
    started = time.process_time()  # not the clock on the wall: other work on the machine is not our cost
    corpus.run(source)
    assert time.process_time() - started < 1


# -- git ---------------------------------------------------------------------------------------------------------------


class Repository:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        identity = {
            f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | identity).stdout

    def write(self, name: str, content: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def commit(self, **files: str) -> str:
        for name, content in files.items():
            self.write(name.replace("__", "/") + ".md", content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x")
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "docs@home")  # an @ in the path is no revision
    made.commit(readme="first", handbook__a="a", handbook__b="b")
    return made


def test_a_tree_is_read_without_a_checkout(corpus: Corpus, repository: Repository) -> None:
    repository.write("readme.md", "uncommitted")
    corpus.run(f"git+{repository.path}")
    assert corpus.contents() == {"readme.md": b"first", "handbook/a.md": b"a", "handbook/b.md": b"b"}


def test_revisions_and_directories(corpus: Corpus, repository: Repository) -> None:
    first = repository.git("rev-parse", "HEAD").strip()
    repository.git("tag", "v1")
    repository.commit(handbook__a="changed")
    repository.git("branch", "feature/x")
    for revision in (first, "v1", "HEAD~1", "main~"):
        corpus.run(f"git+{repository.path}@{revision}#handbook")
        assert corpus.contents() == {"a.md": b"a", "b.md": b"b"}
    report = corpus.run(f"git+{repository.path}@feature/x#handbook/")
    assert (report.changed, report.read, report.unchanged) == (1, 1, 1)


def test_an_unchanged_blob_is_not_read(corpus: Corpus, repository: Repository) -> None:
    corpus.run(f"git+{repository.path}")
    repository.git("mv", "handbook/b.md", "handbook/c.md")
    repository.commit(readme="second")
    report = corpus.run(f"git+{repository.path}")
    assert (report.changed, report.renamed, report.unchanged) == (1, 1, 1)


def test_a_tree_gives_the_same_documents_as_its_checkout(
    corpus: Corpus, repository: Repository, tmp_path: Path
) -> None:
    odd = os.fsencode(repository.path) + b"/handbook/new\nline \xff.md"
    Path(os.fsdecode(odd)).write_text("odd")
    (repository.path / "link.md").symlink_to("handbook/../readme.md")
    (repository.path / "out.md").symlink_to("../../secret")
    (repository.path / "loop.md").symlink_to("loop.md")
    (repository.path / "empty.md").touch()
    repository.commit()
    report = corpus.run(f"git+{repository.path}")
    from_tree = corpus.contents()
    assert [uri for uri, _ in report.skipped] == ["loop.md", "out.md"]
    assert from_tree["link.md"] == b"first"
    corpus.run(str(repository.path))
    assert corpus.contents() == from_tree


def test_submodules_are_skipped_and_patterns_hold(corpus: Corpus, repository: Repository) -> None:
    commit = repository.git("rev-parse", "HEAD").strip()
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},module")
    repository.git("commit", "--quiet", "--message", "x")
    report = corpus.run(f"git+{repository.path}", collect={"exclude": ["handbook/b*"]})
    assert report.skipped == [("module", "submodule")]
    assert report.excluded == {"handbook/b*": 1}
    assert set(corpus.contents()) == {"readme.md", "handbook/a.md"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("git+{path}@nowhere", "there is no revision nowhere"),
        ("git+{path}#nowhere", "there is no directory nowhere"),
        ("git+{path}#../..", "there is no directory"),
        ("git+{path}/handbook", "name the root"),
        ("git+{path}/nothing", "does not exist"),
        ("git+{path}@--upload-pack=touch$IFS/tmp/x", "not safe"),
        ("git+--upload-pack=x", "not safe"),
        ("git+ssh://-oProxyCommand=x/y", "not safe"),
        ("git+ext::sh -c touch% /tmp/x", "not safe"),
        ("git+ftp://example.org/x", "git over ftp is not supported"),
    ],
)
def test_what_cannot_be_read_from_git_is_refused(
    corpus: Corpus, repository: Repository, source: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        corpus.run(source.format(path=repository.path))
    assert message in f"{caught.value} {caught.value.hint}"


def test_a_secret_in_a_source_is_refused_and_not_shown(corpus: Corpus) -> None:
    with pytest.raises(ConfigError) as caught:
        corpus.run("git+https://user:canary@example.org/x.git@main")
    assert "canary" not in f"{caught.value!r} {caught.value.hint}"
    assert "example.org" in str(caught.value)


def test_urls_and_what_they_name(tmp_path: Path) -> None:
    for text, url, revision, directory in [
        ("git+https://example.org/a/b.git", "https://example.org/a/b.git", "HEAD", ""),
        ("git+https://example.org/a/b.git@v1#docs/x", "https://example.org/a/b.git", "v1", "docs/x"),
        ("git+ssh://git@example.org/a.git", "ssh://git@example.org/a.git", "HEAD", ""),
        ("git+ssh://git@example.org:22/a@feature/x", "ssh://git@example.org:22/a", "feature/x", ""),
        ("git+git@example.org:a/b.git", "git@example.org:a/b.git", "HEAD", ""),
        ("git+git@example.org:a/b.git@v1", "git@example.org:a/b.git", "v1", ""),
    ]:
        source: Any = parse_source(text, tmp_path, tmp_path)
        assert (source.url, source.revision, source.directory) == (url, revision, directory)


@pytest.fixture
def served(repository: Repository, tmp_path: Path) -> Iterator[str]:
    """The repository behind a real URL: git's own daemon on a free port."""
    (tmp_path / "served").symlink_to(repository.path / ".git")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["git", "daemon", "--export-all", f"--base-path={tmp_path}", "--listen=127.0.0.1", f"--port={port}"]
    with subprocess.Popen([*command, "--reuseaddr"], stderr=subprocess.DEVNULL, start_new_session=True) as daemon:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"git://127.0.0.1:{port}/served"
        os.killpg(daemon.pid, signal.SIGTERM)


def test_a_url_is_cloned_once_and_then_fetched(corpus: Corpus, repository: Repository, served: str) -> None:
    assert corpus.run(f"git+{served}#handbook").total == 2
    first = repository.git("rev-parse", "HEAD").strip()
    repository.git("checkout", "--quiet", "-b", "other")  # the remote's HEAD moves to another branch
    repository.git("branch", "-D", "main")
    repository.commit(handbook__a="changed", handbook__c="new")
    report = corpus.run(f"git+{served}#handbook")
    assert (report.added, report.changed, report.unchanged) == (1, 1, 1)
    assert len(list((corpus.workspace.state / "git").iterdir())) == 1
    assert corpus.run(f"git+{served}@{first}#handbook").removed == 1
    with pytest.raises(InputError, match="there is no revision main"):
        corpus.run(f"git+{served}@main")


def test_a_server_that_is_away_may_be_tried_again(corpus: Corpus) -> None:
    with pytest.raises(ServiceUnavailable, match="cannot be fetched"):
        corpus.run("git+git://127.0.0.1:1/x.git")


def test_a_dry_run_clones_into_the_scratch_directory(corpus: Corpus, served: str, tmp_path: Path) -> None:
    dry = Corpus(corpus.workspace.dry(tmp_path / "scratch", "handbook"))
    assert dry.run(f"git+{served}").total == 3
    assert not corpus.workspace.root.exists()


# -- fsspec ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[Any]:
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield filesystem
    filesystem.store.clear()


def test_any_fsspec_url_is_a_source(corpus: Corpus, memory: Any) -> None:
    memory.pipe({"/docs/a.md": b"a", "/docs/x/b*[1] .md": b"b", "/docs/.git/config": b"", "/docs2/c.md": b""})
    report = corpus.run("memory://docs")
    assert corpus.contents() == {"a.md": b"a", "x/b*[1] .md": b"b"}
    assert report.excluded == {"**/.*": 1}
    memory.pipe("/docs/a.md", b"A")
    del memory.store["/docs/x/b*[1] .md"]
    report = corpus.run("memory://docs")
    assert (report.changed, report.removed) == (1, 1)


def test_one_remote_file_or_a_remote_glob(corpus: Corpus, memory: Any) -> None:
    memory.pipe({"/docs/a.md": b"a", "/docs/x/b.md": b"b", "/docs/x/c.txt": b"c"})
    corpus.run("memory://docs/x/b.md")
    assert corpus.contents() == {"b.md": b"b"}
    corpus.run("memory://docs/**/*.md")
    assert corpus.contents() == {"a.md": b"a", "x/b.md": b"b"}


def test_a_remote_file_with_a_known_time_is_not_read_again(corpus: Corpus, memory: Any) -> None:
    memory.pipe({"/docs/a.md": b"a"})
    later = time.time_ns() + 10**10
    corpus.run("memory://docs", now_ns=lambda: later)
    assert corpus.run("memory://docs").unchanged == 1


def test_a_missing_place_is_never_taken_for_an_empty_one(corpus: Corpus, memory: Any) -> None:
    memory.pipe({"/docs/a.md": b"a"})
    corpus.run("memory://docs")
    memory.store.clear()
    with pytest.raises(InputError, match=r"does not exist; nothing was changed"):
        corpus.run("memory://docs", allow_mass_delete=True)


def test_an_unknown_protocol_is_named(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        corpus.run("nonsense://user:canary@host/docs")
    with pytest.raises(ConfigError) as caught:
        corpus.run("nonsense://user:canary@host/docs")
    assert "canary" not in str(caught.value)


def test_an_archive_is_a_source_and_nothing_climbs_out_of_it(corpus: Corpus, tmp_path: Path) -> None:
    archive = tmp_path / "docs.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("docs/a.md", "a")
        file.writestr("docs/x/b.md", "b")
        file.writestr("docs/../../evil.md", "evil")
    report = corpus.run(f"zip://docs::{archive}", collect={"hidden": True})
    assert corpus.contents() == {"a.md": b"a", "x/b.md": b"b"}
    assert corpus.run(f"zip://docs::{archive}").unchanged == 2
    assert [uri for uri, _ in report.skipped] == ["../../evil.md"]


def test_a_local_url_gives_what_the_directory_gives(corpus: Corpus, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "x").mkdir(parents=True)
    (docs / "a.md").write_text("a")
    (docs / "x" / "ü.md").write_text("u")
    corpus.run(f"file://{docs}")
    through_url = corpus.contents()
    corpus.run(str(docs))
    assert corpus.contents() == through_url
