"""erase: a document is gone from every version, and the others are as if it had never been there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import erase as job
from pipelines import index, ingest
from pipelines.config import RetentionConfig, load_config
from pipelines.erase.objects import object_name
from pipelines.erase.segments import is_segment, keys_of, rows_of
from pipelines.erased import Record, add_erased, document_hash, read_erased
from pipelines.errors import ConflictError, InputError, IntegrityError, NotFoundError, ServiceUnavailable
from pipelines.failpoints import EXIT_CODE
from pipelines.files import Store, read_manifest
from pipelines.index import retention
from pipelines.index.db import connect
from pipelines.index.prune import prune
from pipelines.index.server import EmbeddedServer
from pipelines.manifests import read_chunks, read_documents, read_space, vectors_store
from pipelines.model import Revision
from pipelines.prune import prune as prune_all
from pipelines.record import commit_stages
from pipelines.restore import restore
from tests.conftest import Databases
from tests.index.state import State, sha256

WORD = "zqxcanaryvjk0w8e5r7t2y4u6i1o3pXHB"  # a word of one document only
VICTIM = f"# Person\n\nThe {WORD} lives in the forest and pays late.\n\nSecond part about {WORD} and its neighbours.\n"
NOTE = (  # in many documents, and a chunk of its own
    "\n\n## Legal\n\nThis page is confidential and belongs to the company alone, as all of the pages do that anybody"
    " here has ever written, read, sent or printed.\n"
)
SETTINGS = ["chunk.context=none"]  # so that documents share chunks
QUERIES = ("forest and neighbours", "confidential company pages", "page number three", "lives")


@pytest.fixture
def state(tmp_path: Path, database: str) -> State:
    return State.make(tmp_path / "workspace", database, *SETTINGS)


def others() -> dict[str, str]:
    return {f"{n}.md": f"# Page {n}\n\nPage number {n} is about forest {n * 7}.{NOTE}" for n in range(6)}


def erase(state: State, document: str = "victim.md", **options: Any) -> dict[str, Any]:
    return job.erase(state.config, state.workspace, document, **options)


def really_run(state: State) -> dict[str, Any]:
    """Without the short cut of tests, which parses every file that is there."""
    return ingest.run(state.config, state.workspace, allow_mass_delete=True)


def answers(state: State, at: int) -> list[Any]:
    """What people find: chunks, scores and documents."""
    return [
        [(hit.text, round(hit.score, 6), hit.document) for hit in state.search(query, mode=mode, at=at, k=50).hits]
        for query in QUERIES
        for mode in ("lexical", "hybrid", "dense")
    ]


def frequencies(state: State, version: int) -> dict[int, int]:
    rows = state.execute(
        "SELECT DISTINCT ON (term) term, chunks FROM document_frequency WHERE version <= %s ORDER BY 1, version DESC",
        version,
    )
    return {term: chunks for term, chunks in rows if chunks}


def three_versions(state: State, *, victim: bool) -> list[str]:
    """Versions 1 to 3: the document is added in the first, changed in the second, untouched in the third."""
    first, second = (VICTIM + NOTE, VICTIM.replace("late", "early") + NOTE) if victim else ("", "")
    snapshots = []
    for number, text in enumerate((first, second, second)):
        documents = others() | {"moving.md": f"# Moving\n\nForest in state {number} of pages.\n"}
        documents |= {"victim.md": text} if text else {}
        state.become(documents)
        snapshots.append(state.run()["snapshot"])
    return snapshots


def test_every_version_is_as_if_the_document_had_never_been(
    state: State, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = three_versions(state, victim=True)
    state.execute(
        "UPDATE snapdex.version SET report = report || %s::jsonb WHERE number = 2",
        '{"quarantined": [{"document": "victim.md", "reason": "corrupt", "detail": "secret"}]}',
    )
    plan = erase(state, dry_run=True)
    assert state.search(WORD, mode="lexical").hits, "a dry run changes nothing"
    assert (plan["versions"], plan["documents"], plan["chunks"]["shared"]) == ([1, 2, 3], 1, 2)
    report = erase(state)
    assert {name: report[name] for name in plan} == plan | {"dry_run": False}
    assert [version.snapshot for version in state.versions()] == snapshots
    assert [state.problems(number) for number in (1, 2, 3)] == [[], [], []]
    found = state.execute("SELECT report FROM snapdex.version WHERE number = 2")[0][0]
    assert "victim" not in str(found) and "secret" not in str(found) and found["quarantined"][0]["reason"] == "corrupt"
    assert state.execute("SELECT detail FROM snapdex.maintenance WHERE kind = 'erase'")[0][0]["document_sha256"] == [
        document_hash("victim.md")
    ]
    with databases() as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        never = State.make(tmp_path / "never", url, *SETTINGS)
        three_versions(never, victim=False)
        for number in (1, 2, 3):
            assert answers(state, number) == answers(never, number)
            assert frequencies(state, number) == frequencies(never, number)
            assert state.version(number).chunks == never.version(number).chunks


def test_statistics_are_right_where_versions_were_forgotten(
    state: State, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a forgotten version changed is still in the sums of later ones."""

    def without_second(state: State) -> None:
        state.publish(1)
        with state.connect() as connection:
            retention.forget(connection, state.index(), RetentionConfig(keep_last=0, keep_daily=0))

    three_versions(state, victim=True)
    without_second(state)
    erase(state)
    with databases() as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        never = State.make(tmp_path / "never", url, *SETTINGS)
        three_versions(never, victim=False)
        without_second(never)
        for number in (1, 3):
            assert state.problems(number) == []
            assert (answers(state, number), frequencies(state, number)) == (
                answers(never, number),
                frequencies(never, number),
            )


def test_it_does_not_come_back(state: State) -> None:
    three_versions(state, victim=True)
    erase(state)
    state.write({"copy.md": VICTIM + NOTE})
    report = really_run(state)
    assert (report["documents"]["excluded"], report["documents"]["total"]) == (2, 7)
    assert report["documents"]["removed"] == report["documents"]["added"] == 0
    assert state.problems() == [] and not state.search(WORD, mode="lexical").hits
    assert sha256(VICTIM + NOTE) not in {each.content_sha256 for each in read_documents(state.workspace, state.name)}
    again = really_run(state)
    assert (again["version"], again["published"]) == (report["version"], False)
    assert WORD not in _text_of_stores(state)


def test_copies_keep_the_text_alive_and_are_asked_about(state: State) -> None:
    state.write(others() | {"victim.md": VICTIM}).run()
    state.become(others() | {"renamed.md": VICTIM, "victim.md": VICTIM.replace("late", "early")})
    state.run()
    state.become(others() | {"renamed.md": VICTIM.replace("late", "never")})
    state.run()
    with pytest.raises(InputError, match="1 other documents have the same content"):
        erase(state)
    assert state.search(WORD, mode="lexical").hits
    plan = erase(state, dry_run=True)
    assert plan["also_in"] == [{"index": "handbook", "document": "renamed.md"}]
    erase(state, copies=True)
    assert WORD not in _text_of_stores(state)
    for number in (1, 2, 3):
        assert state.problems(number) == [] and not state.search(WORD, mode="lexical", at=number).hits


def test_a_copy_in_another_index_of_the_workspace(state: State) -> None:
    """They share the stores, so the text would stay there, too."""
    other = state.with_settings(*SETTINGS, "index.name=other")
    for each in (state, other):
        each.write(others() | {"victim.md": VICTIM}).run()
    with pytest.raises(InputError, match="1 other documents"):
        erase(state)
    erase(state, copies=True)
    for each in (state, other):
        assert each.problems() == [] and not each.search(WORD, mode="lexical").hits
        assert really_run(each)["documents"]["excluded"] == 1
    assert WORD not in _text_of_stores(state)


def test_what_only_git_remembers_goes(state: State, tmp_path: Path) -> None:
    """The document was edited and its first version pruned from the database; the store still has it."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)  # the workspace is a directory of the repository
    state.write(others() | {"victim.md": VICTIM}).run()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "add", "-f", "workspace/data/manifests"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-qm", "v1"], cwd=tmp_path, check=True)
    state.write({"victim.md": "# Person\n\nNothing is said here any more.\n", "extra.md": "# Extra\n\nMore.\n"}).run()
    with state.connect() as connection:
        retention.forget(connection, state.index(), RetentionConfig(keep_last=0, keep_daily=0))
        prune(connection, state.index())
    assert WORD in _text_of_stores(state)
    erase(state)
    assert WORD not in _text_of_stores(state)
    assert state.problems() == [] and really_run(state)["parsed"] == 0, "what others need is still there"


def test_an_old_version_is_rebuilt_with_its_id_and_without_the_document(
    state: State, databases: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    snapshots = three_versions(state, victim=True)
    kept = tmp_path / "manifests"
    shutil.copytree(state.workspace.manifest(state.name, "chunks").parent, kept)  # as a commit keeps them
    erase(state)
    shutil.copytree(kept, state.workspace.manifest(state.name, "chunks").parent, dirs_exist_ok=True)
    with databases() as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        empty = State(state.root, url, state.config)
        built = index.build(empty.config, empty.workspace)
        assert built.snapshot == snapshots[-1]
        empty.publish(built.version)
        assert empty.problems() == [] and answers(empty, built.version) == answers(state, 3)
        assert "victim.md" not in empty.documents("active")


def test_restoring_what_was_recorded_before_does_not_bring_it_back(
    state: State, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *identity, *arguments], cwd=state.root, check=True, capture_output=True)

    git("init", "-q")
    recorded = state.write(others() | {"victim.md": VICTIM}).run()
    git("add", "-f", "data/manifests")
    git("commit", "-qm", "v1")
    git("tag", f"snapdex/{state.name}/v1-{recorded['snapshot'][:12]}")
    state.write({"0.md": "# Page 0\n\nAnother text."}).run()
    erase(state)
    with databases() as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        elsewhere = State(state.root, url, state.config)
        for place in (elsewhere, elsewhere):  # loaded, then found in the database
            report = restore(place.config, place.workspace, "v1")
            assert (report["version"], report["snapshot"]) == (1, recorded["snapshot"])
            assert place.problems() == []
            assert place.documents("active").keys() == others().keys()
            assert not place.search(WORD, mode="lexical").hits
        manifests = state.root / "data" / "manifests" / state.name
        assert not [path.name for path in manifests.iterdir() if "victim" in path.read_text("utf-8")]
        assert really_run(elsewhere)["published"]


def test_the_present_files_can_be_restored_after_it(
    state: State, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also into an empty database, and after a restore of what was recorded before."""
    git(state, "init", "-q")
    first = state.write(others() | {"victim.md": VICTIM}).run()
    commit_manifests(state)
    git(state, "tag", f"snapdex/{state.name}/v1-{first['snapshot'][:12]}")
    second = state.write({"0.md": "# Page 0\n\nAnother text."}).run()
    erase(state)
    erase(state, "1.md")
    report = restore(state.config, state.workspace)
    assert (report["version"], report["published"], report["loaded"]) == (2, False, 0)
    for recorded, target in ((second, None), (first, "v1"), (first, None)):
        with databases() as url:
            monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
            elsewhere = State(state.root, url, state.config)
            report = restore(elsewhere.config, elsewhere.workspace, target)
            assert (report["version"], report["snapshot"]) == (recorded["version"], recorded["snapshot"])
            assert elsewhere.problems() == []
            assert elsewhere.documents("active").keys() == others().keys() - {"1.md"}
            assert not elsewhere.search(WORD, mode="lexical").hits
            if (recorded, target) == (first, None):
                run = really_run(elsewhere)
                assert run["documents"]["total"] == 5 and run["published"]
    for kind in ("snapshot", "chunks"):
        assert "victim" not in state.workspace.manifest(state.name, kind).read_text("utf-8")
    manifest = read_manifest(state.workspace.manifest(state.name, "snapshot"), "snapshot")
    assert manifest and not manifest.rows, "the version of the run never had them"


def test_a_forgotten_version_can_be_restored_until_the_next_prune(
    state: State, databases: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    git(state, "init", "-q")
    first = state.write(others() | {"victim.md": VICTIM}).run()
    commit_manifests(state)
    git(state, "tag", f"snapdex/{state.name}/v1-{first['snapshot'][:12]}")
    state.become({name: text for name, text in others().items() if name < "3"})
    state.run()
    with state.connect() as connection:
        retention.forget(connection, state.index(), RetentionConfig(keep_last=0, keep_daily=0))
    erase(state)
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        before = state.copy(tmp_path / "before", url).with_settings(*SETTINGS)
        assert restore(before.config, before.workspace, "v1")["snapshot"] == first["snapshot"]
        assert before.documents("active").keys() == others().keys()
    prune_all(state.config, state.workspace)
    manifests = state.workspace.manifest(state.name, "chunks").parent
    files = {path: path.read_bytes() for path in manifests.iterdir()}
    tables = ("membership", "revision", "chunk", "lexical", "vectors_1", "snapdex.version", "snapdex.operation")
    rows = [state.execute(f"SELECT count(*) FROM {table}") for table in tables]
    with pytest.raises(InputError, match="entries that the manifests name") as caught:
        restore(state.config, state.workspace, "v1")
    assert caught.value.exit_code == 3 and "pruned" in caught.value.hint
    assert {path: path.read_bytes() for path in manifests.iterdir()} == files
    assert [state.execute(f"SELECT count(*) FROM {table}") for table in tables] == rows
    assert state.problems() == [] and state.index().active_version == 2


@pytest.mark.parametrize("branch", ["refs/heads/snapdex/handbook", "refs/remotes/origin/other"])
def test_a_clone_at_an_earlier_tag_does_not_bring_it_back(
    state: State, databases: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, branch: str
) -> None:
    """Only the head of a branch has the record: `restore` asks all of them, and later commands keep to it."""
    git(state, "init", "-q")
    report = state.write(others() | {"victim.md": VICTIM}).run()
    commit_manifests(state)
    tag = f"snapdex/{state.name}/v1-{report['snapshot'][:12]}"
    git(state, "tag", tag)
    erase(state)
    commit_manifests(state)
    git(state, "update-ref", branch, "HEAD")
    git(state, "checkout", "-q", "--detach", tag)
    git(state, "branch", "-q", "-D", "main")
    with databases() as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        fresh = state.copy(tmp_path / "clone", url).with_settings(*SETTINGS)
        shutil.rmtree(fresh.workspace.state)
        assert not fresh.workspace.manifest(state.name, "erased").exists()
        restored = restore(fresh.config, fresh.workspace, "v1")
        assert (restored["version"], restored["snapshot"]) == (1, report["snapshot"])
        assert fresh.problems() == [] and fresh.documents("active").keys() == others().keys()
        assert not fresh.workspace.manifest(state.name, "erased").exists(), "a checkout of the branch would stop at it"
        assert really_run(fresh)["documents"]["excluded"] == 1
        git(fresh, "checkout", "-q", "-f", branch)


def test_a_version_that_still_has_it_is_not_published_again(state: State) -> None:
    """The document was erased in another clone, whose record is here; this database holds it."""
    git(state, "init", "-q")
    first = state.write(others() | {"victim.md": VICTIM}).run()
    commit_manifests(state)
    git(state, "tag", f"snapdex/{state.name}/v1-{first['snapshot'][:12]}")
    state.become(others())
    state.run()
    add_erased(state.workspace, state.name, [Record(document_hash("victim.md"), None, None, "2026-01-01T00:00:00")])
    with pytest.raises(ConflictError, match="erased elsewhere"):
        restore(state.config, state.workspace, "v1")
    assert state.index().active_version == 2


def test_a_record_of_a_branch_that_was_changed_is_not_believed(state: State) -> None:
    git(state, "init", "-q")
    state.write(others() | {"victim.md": VICTIM}).run()
    erase(state)
    path = state.workspace.manifest(state.name, "erased")
    manifest = read_manifest(path, "erased")
    assert manifest
    type(manifest)("erased", manifest.facts, manifest.rows[1:]).write(path)  # with a good hash at its end
    commit_manifests(state)
    path.unlink()
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        restore(state.config, state.workspace)


def git(state: State, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=state.root, check=True, capture_output=True)


def commit_manifests(state: State) -> None:
    git(state, "add", "-f", "data/manifests")
    git(state, "commit", "-qm", "manifests")


def test_an_earlier_commit_does_not_take_it_back(state: State) -> None:
    three_versions(state, victim=True)
    erase(state)
    state.workspace.manifest(state.name, "erased").unlink()  # as git does where the file was not there yet
    assert really_run(state)["documents"]["excluded"] == 1
    assert WORD not in _text_of_stores(state)


def test_files_of_somebody_else_cannot_bring_it_back(state: State, tmp_path: Path) -> None:
    three_versions(state, victim=True)
    elsewhere = state.copy(tmp_path / "elsewhere", state.url).with_settings(*SETTINGS)
    erase(state)
    elsewhere.write({"new.md": "# New\n\nSomething new.\n"})
    for command in (elsewhere.plan, elsewhere.run):
        with pytest.raises(ConflictError, match="erased from the index"):
            command()


def test_a_leaf_without_a_record_is_a_problem(state: State) -> None:
    three_versions(state, victim=True)
    erase(state)
    state.execute("DELETE FROM snapdex.erasure")
    assert any("no record" in problem for problem in state.problems(1))


def test_unknown_and_repeated(state: State) -> None:
    three_versions(state, victim=True)
    with pytest.raises(NotFoundError):
        erase(state, "nobody.md")
    erase(state)
    before = read_erased(state.workspace, state.name)
    plan = erase(state)
    assert plan["already_erased"] and plan["documents"] == 0 and not plan["segments"]
    assert read_erased(state.workspace, state.name) == before


def test_quarantined_and_unpublished_contents_go(state: State) -> None:
    state.write(others() | {"victim.md": VICTIM}).run()
    really_run(state.write({"victim.md": ""}))  # empty: the last good revision keeps serving
    erase(state)
    assert state.execute("SELECT * FROM quarantine") == []
    assert WORD not in _text_of_stores(state)
    report = really_run(state.write({"other-empty.md": ""}))
    assert (report["documents"]["excluded"], report["documents"]["quarantined"]) == (1, 1), "no bytes are nobody's"


def test_the_record_is_signed(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAPDEX_SIGNING_KEY", "a key")
    state.write(others() | {"victim.md": VICTIM}).run()
    erase(state)
    path = state.workspace.manifest(state.name, "erased")
    found = read_erased(state.workspace, state.name)
    assert found.document("victim.md") and found.content(sha256(VICTIM)) and not found.document("0.md")
    assert WORD not in path.read_text() and "victim" not in path.read_text() and sha256(VICTIM) not in path.read_text()
    manifest = read_manifest(path, "erased")
    assert manifest
    type(manifest)("erased", manifest.facts, manifest.rows[1:]).write(path)  # with a good hash at its end
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        read_erased(state.workspace, state.name)


def _text_of_stores(state: State) -> str:
    store = state.root / "data" / "store"
    return "".join(
        value.decode("utf-8", "replace")
        for path in store.rglob("*.parquet")
        if "embeddings" not in path.parts
        for _, value in rows_of(path, keys_of(path))
    )


# -- bytes -------------------------------------------------------------------------------------------------------------

PARAMS = """
index: {{name: handbook}}
collect: {{sources: [{docs}]}}
parse: {{timeout_seconds: 60}}
chunk: {{max_tokens: 32, min_tokens: 0, context: none}}
embed: {{model: "hash:64"}}
generate: {{model: "", temperature: 0.0}}
search: {{mode: hybrid}}
gate: {{golden: golden.jsonl}}
models: [handbook]
pairs: {{judgements: judged.jsonl, mined: 100, held_out: 0.0}}
finetune: {{base: ""}}
evaluate_model: {{}}
language_models: {{}}
"""
STEPS = ["tombstoned", "before_commit", "database_committed", "vacuumed", "stores_rewritten", "dvc_cleaned"]


def program(root: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "SNAPDEX_DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=root, env=clean | env, capture_output=True, text=True, check=False
    )


def well(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def recorded(own_server: EmbeddedServer, tmp_path: Path) -> Iterator[State]:
    """Two recorded versions with a server, a DVC remote and git of their own; the second one in other segments."""
    root = own_server.state.parent
    root.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=root, check=True)
    well(program(Path.cwd(), "pipelines.cli", "init", str(root)))
    (root / "docs").mkdir()
    (root / "params.yaml").write_text(PARAMS.format(docs=root / "docs"), "utf-8")
    well(program(root, "dvc", "remote", "add", "-q", "-d", "shelf", str(tmp_path / "remote")))
    state = State(root, own_server.ensure_running(), load_config(root / "params.yaml"))
    state.write(others() | {"victim.md": VICTIM + NOTE}).run(record=True)
    for store in (state.workspace.store(name) for name in ("documents", "chunks")):
        store.rewrite(store.segments(), lambda key: True)
        old = [key for path in store.segments() for key in keys_of(path)]
        assert old
    state.write({"victim.md": VICTIM.replace("late", "early") + NOTE, "new.md": "# New\n\nSomething new.\n"})
    state.run(record=True)
    judged = {"question": "What is in the confidential file?", "documents": ["victim.md"]}
    (root / "judged.jsonl").write_text(json.dumps(judged) + "\n", "utf-8")
    well(program(root, "pipelines.cli", "finetune", "embedding", "--dry-run"))
    commit_stages(state.workspace, ["pairs@handbook"])
    well(program(root, "dvc", "push", "-q"))
    assert WORD in (root / "data/pairs/handbook/train.jsonl").read_text("utf-8")
    yield state


def secrets(state: State) -> dict[str, bytes]:
    """The text, and the vectors of its chunks as half and as single precision."""
    _, rows = read_chunks(state.workspace, state.name)
    revision = next(row.revision_key for row in rows if row.uri == "victim.md")
    value = state.workspace.store("chunks").get(revision)
    chunks = [chunk for chunk in Revision.from_json(value).chunks if WORD in chunk.text]
    space = read_space(state.workspace, state.name)["space"]
    found = {"text": WORD.encode(), "name": b"victim.md"}
    for number, (_, half) in enumerate(state.workspace.store(vectors_store(space)).read(c.key for c in chunks)):
        found[f"half {number}"] = half
        found[f"single {number}"] = np.frombuffer(half, "<f2").astype("<f4").tobytes()
    return found


def scan(state: State, remote: Path, needles: dict[str, bytes]) -> dict[str, set[str]]:
    """By place, which of the needles stand in its files; segments are decompressed."""
    places = {
        "database": state.root / ".snapdex" / "postgres",
        "store": state.root / "data" / "store",
        "cache": state.root / ".dvc" / "cache",
        "remote": remote,
        "state": state.root / ".snapdex",
        "data": state.root / "data",
        "dvc": state.root / ".dvc",
    }
    found: dict[str, set[str]] = {}
    for name, place in places.items():
        found[name] = set()
        for path in place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                if data[:4] == b"PAR1" and is_segment(path):
                    data += b"\n".join(value for _, value in rows_of(path, keys_of(path)))
                found[name] |= {needle for needle, value in needles.items() if value in data}
    return found


def test_no_byte_of_it_is_left_whenever_it_is_killed(recorded: State, tmp_path: Path) -> None:
    state, remote = recorded, tmp_path / "remote"
    away = remote.rename(tmp_path / "not mounted")
    with pytest.raises(ServiceUnavailable, match="is not there"):
        erase(state)
    assert not state.workspace.manifest(state.name, "erased").exists()
    away.rename(remote)
    needles = secrets(state)
    halves = {name for name in needles if name.startswith("half")}
    with connect(state.url) as connection:
        connection.execute("CHECKPOINT")
    before = scan(state, remote, needles)
    for place in ("database", "store", "cache", "remote"):
        assert {"text", *halves} <= before[place], (place, before)
    gone = next(path for path in (state.root / ".dvc/cache/files/md5").rglob("*") if _holds(path, needles["text"]))
    gone.unlink()  # so that only the remote has it
    put_into_cache(state, Store(tmp_path / "unrecorded"))
    snapshots = [version.snapshot for version in state.versions()]
    command = ("pipelines.cli", "erase", "victim.md", "--yes", "--json", "--home", str(state.root))
    for step in STEPS:
        done = program(Path.cwd(), *command, SNAPDEX_FAILPOINT=f"erase.{step}")
        assert done.returncode == EXIT_CODE, step + done.stderr
    report = json.loads(well(program(Path.cwd(), *command)))
    assert report["already_erased"] and report["unfinished"] and not (state.root / ".snapdex/erase.json").exists()
    after = scan(state, remote, needles)
    assert not any(after.values()), after
    assert [version.snapshot for version in state.versions()] == snapshots
    for number in (1, 2):
        assert state.problems(number) == []
        assert not state.search(WORD, mode="lexical", at=number).hits
        assert state.search("confidential company", at=number).hits
    state.path("victim.md").rename(state.path("other-name.md"))
    again = ingest.run(state.config, state.workspace, record=True)
    assert again["documents"]["excluded"] == 1 and again["record"]["pushed"]
    to_do = json.loads(well(program(state.root, "dvc", "status", "--json")))
    assert to_do.keys() <= {"pairs@handbook", "finetune@handbook", "evaluate_model@handbook"}
    assert not any(scan(state, remote, needles).values())


def put_into_cache(state: State, store: Store) -> None:
    """A segment that no recorded state names: what `dvc commit` leaves when nothing is committed to git after it."""
    with store.writer() as writer:
        writer.add(bytes.fromhex(sha256(VICTIM + NOTE)), (VICTIM + NOTE).encode())
    (path,) = store.segments()
    oid = object_name(path)
    target = state.root / ".dvc/cache/files/md5" / oid[:2] / oid[2:]
    target.parent.mkdir(exist_ok=True)
    path.rename(target)


def _holds(path: Path, needle: bytes) -> bool:
    return path.is_file() and is_segment(path) and any(needle in value for _, value in rows_of(path, keys_of(path)))


def test_it_asks_first(state: State) -> None:
    state.write(others() | {"victim.md": VICTIM}).run()
    words = ("pipelines.cli", "erase", "victim.md", "--home", str(state.root))
    done = subprocess.run(
        [sys.executable, "-m", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--yes" in done.stderr
    assert state.search(WORD, mode="lexical").hits


def test_what_an_interrupted_command_condemned_is_not_lost_for_others(state: State) -> None:
    """A plan that was refused leaves nothing behind that a later command would act upon."""
    state.write(others() | {"victim.md": VICTIM, "copy.md": VICTIM}).run()
    with pytest.raises(InputError):
        erase(state)
    erase(state, "1.md")
    assert state.problems() == [] and state.search(WORD, mode="lexical").hits
    assert read_erased(state.workspace, state.name).documents == {document_hash("1.md")}
    assert WORD in _text_of_stores(state)
