"""The stage: work proportional to change, quarantine with a last good revision, and workers that may die."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import media
from pipelines.config import Config
from pipelines.errors import InputError
from pipelines.files import Manifest, Workspace
from pipelines.manifests import ElementsRow, document_to_row, element_key, read_elements
from pipelines.model import Document, Parsed, Reason
from pipelines.parse import ParseReport, fingerprint, run
from pipelines.parse import __main__ as command
from pipelines.parse import plan as planning

INDEX = Config().index.name
ROOT = Path(__file__).resolve().parents[2]
SLOW = b"a,b\n" * 2_000_000  # takes seconds to parse


def config(**parse: object) -> Config:
    return Config.model_validate({"parse": {"workers": 1, **parse}})


def collect(workspace: Workspace, files: dict[str, bytes]) -> None:
    """What the stage before leaves: the bytes in the store, a row for each file."""
    documents = []
    with workspace.store("documents").writer() as writer:
        for name, data in files.items():
            content = hashlib.sha256(data)
            writer.add(content.digest(), data)
            documents.append(Document(name, content.hexdigest(), len(data), media.media_type(name, data)))
    rows = [document_to_row(document) for document in documents]
    Manifest("documents", {}, rows).write(workspace.manifest(INDEX, "documents"))


def rows(workspace: Workspace) -> dict[str, ElementsRow]:
    return {row.uri: row for row in read_elements(workspace, INDEX)[1]}


def served(workspace: Workspace, uri: str) -> str:
    key = rows(workspace)[uri].element_key
    assert key
    return Parsed.from_json(workspace.store("elements").get(key)).text


def counts(report: ParseReport) -> tuple[int, int, int, int]:
    return report.parsed, report.reused, report.kept, len(report.quarantined)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_each_content_is_parsed_once_under_any_name(workspace: Workspace) -> None:
    collect(workspace, {"a.md": b"# One\n", "copy/a.md": b"# One\n", "b.md": b"# Two\n"})
    assert counts(run(config(), workspace)) == (2, 1, 0, 0)
    assert served(workspace, "copy/a.md") == "# One\n"
    collect(workspace, {"renamed.md": b"# One\n", "b.md": b"# Three\n"})
    assert counts(run(config(), workspace)) == (1, 1, 0, 0)
    collect(workspace, {"b.md": b"# Two\n"})  # reverted: not in the manifest before, but in the store
    assert counts(run(config(), workspace)) == (0, 1, 0, 0)
    assert set(rows(workspace)) == {"b.md"}


def test_the_manifest_does_not_depend_on_history(workspace: Workspace, tmp_path: Path) -> None:
    files = {"a.md": b"# One\n", "b.txt": b"It is a line of text.\n", "c.md": b""}
    collect(workspace, {"a.md": b"# Old\n", "z.md": b"gone"})
    run(config(), workspace)
    collect(workspace, files | {"a.md": b"# One\n"})
    run(config(), workspace)
    fresh = Workspace(tmp_path / "fresh")
    collect(fresh, files)
    run(config(), fresh)
    texts = [w.manifest(INDEX, "elements").read_text() for w in (workspace, fresh)]
    assert texts[0] == texts[1]


def test_the_last_good_revision_is_kept_until_the_document_is_good_again(workspace: Workspace) -> None:
    collect(workspace, {"a.pdf": b"Good text is here.", "new.pdf": b"%PDF-1.7 broken"})
    assert counts(run(config(), workspace)) == (1, 0, 0, 1)
    assert rows(workspace)["new.pdf"].state == "quarantined"
    assert rows(workspace)["new.pdf"].element_key is None

    broken = b"%PDF-1.7 broken as well"
    for _ in range(2):  # the second run knows already
        collect(workspace, {"a.pdf": broken})
        report = run(config(), workspace)
        assert counts(report) == (0, 0, 1, 1)
        row = rows(workspace)["a.pdf"]
        assert (row.state, row.failed_sha256, row.reason) == (
            "kept",
            hashlib.sha256(broken).hexdigest(),
            Reason.CORRUPT,
        )
        assert report.quarantined == [row.quarantined]
        assert served(workspace, "a.pdf") == "Good text is here."

    collect(workspace, {"a.pdf": b"Better text is here."})
    assert counts(run(config(), workspace)) == (1, 0, 0, 0)
    assert rows(workspace)["a.pdf"].state == "ok"


def test_a_new_parser_reads_kept_revisions_too(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(workspace, {"a.md": b"# Good\n", "b.md": b"# Fine\n"})
    run(config(), workspace)
    collect(workspace, {"a.md": b"", "b.md": b"# Fine\n"})
    run(config(), workspace)
    monkeypatch.setattr("pipelines.parse.stage.fingerprint", lambda config: "parse-2")
    assert counts(run(config(), workspace)) == (2, 0, 1, 1)
    good = hashlib.sha256(b"# Good\n").hexdigest()
    assert rows(workspace)["a.md"].element_key == element_key(good, media.MARKDOWN, "parse-2")
    assert served(workspace, "a.md") == "# Good\n"


def test_known_failures_are_not_tried_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(workspace, {"a.md": b" \n", "copy.md": b" \n"})
    assert len(run(config(), workspace).quarantined) == 2
    shutil.rmtree(workspace.store("documents").directory)  # trying again would have to read it
    assert counts(run(config(), workspace)) == (0, 0, 0, 2)
    collect(workspace, {"third.md": b" \n"})
    shutil.rmtree(workspace.store("documents").directory)
    assert [q.reason for q in run(config(), workspace).quarantined] == [Reason.NO_TEXT]


def test_what_a_limit_refused_is_tried_again_when_the_limit_changes(workspace: Workspace) -> None:
    collect(workspace, {"a.txt": b"word and more\n" * 100_000})
    assert [q.reason for q in run(config(max_file_mib=1), workspace).quarantined] == [Reason.TOO_LARGE]
    assert [q.reason for q in run(config(max_text_mib=1), workspace).quarantined] == [Reason.BOMB]
    assert counts(run(config(), workspace)) == (1, 0, 0, 0)


def test_missing_bytes_are_an_input_error(workspace: Workspace) -> None:
    collect(workspace, {"a.md": b"# One\n"})
    shutil.rmtree(workspace.store("documents").directory)
    with pytest.raises(InputError, match="1 entries"):
        run(config(), workspace)


def test_recompute_fills_a_store_that_lost_rows(workspace: Workspace) -> None:
    collect(workspace, {"a.md": b"# One\n"})
    run(config(), workspace)
    shutil.rmtree(workspace.store("elements").directory)
    assert counts(run(config(), workspace)) == (0, 1, 0, 0)
    assert counts(run(config(), workspace, recompute=True)) == (1, 0, 0, 0)
    assert served(workspace, "a.md") == "# One\n"


def test_a_run_with_nothing_to_do_imports_no_parser_and_reads_no_segment(workspace: Workspace) -> None:
    collect(workspace, {"a.md": b"# One\n", "b.txt": b"It is a line of text.\n", "e.md": b""})
    run(config(), workspace)
    for name in ("documents", "elements"):
        shutil.rmtree(workspace.store(name).directory)
    code = """
import sys
from pathlib import Path
from pipelines.config import Config
from pipelines.files import Workspace
from pipelines.parse import run
report = run(Config(), Workspace(Path(sys.argv[1])))
assert (report.parsed, report.reused, len(report.quarantined)) == (0, 2, 1), report
heavy = {"unstructured", "spacy", "torch", "markdown_it", "pdfminer", "lxml", "charset_normalizer"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, workspace.root], check=True, cwd=ROOT)


def test_beir_lines_need_no_worker(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.parse.stage.WorkerPool", None)
    lines = {f"{n}.jsonl": json.dumps({"_id": str(n), "title": "T", "text": f"body {n}"}).encode() for n in range(500)}
    collect(workspace, lines | {"bad.jsonl": b'{"_id": "1", "text": " "}'})
    report = run(config(), workspace)
    assert counts(report) == (500, 0, 0, 1)
    assert served(workspace, "7.jsonl") == "T\n\nbody 7"


def test_the_run_goes_on_around_a_document_that_hangs(workspace: Workspace) -> None:
    collect(workspace, {f"good{n}.md": f"# Good {n}\n".encode() for n in range(8)} | {"slow.csv": SLOW})
    report = run(config(workers=2, timeout_seconds=1), workspace)
    assert [(q.uri, q.reason) for q in report.quarantined] == [("slow.csv", Reason.TIMEOUT)]
    assert report.parsed == 8
    assert not (workspace.state / "parse").exists()
    # It may have been the machine's fault, so it is tried again; what succeeded is not.
    assert counts(run(config(), workspace)) == (1, 8, 0, 0)


def test_the_run_goes_on_around_a_document_that_needs_too_much_memory(workspace: Workspace) -> None:
    collect(workspace, {"a.md": b"# Good\n", "b.md": b"# Fine\n", "huge.csv": b"a,b\n" * 7_000_000})
    report = run(config(memory_mib=256, max_text_mib=100), workspace)
    assert [(q.uri, q.reason) for q in report.quarantined] == [("huge.csv", Reason.OUT_OF_MEMORY)]
    assert report.parsed == 2


def children() -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if b"pipelines.parse.worker" in line and line.rstrip(b"\0").endswith(f"\0{os.getpid()}".encode()):
            yield int(path.parent.name)


def test_a_document_that_kills_its_worker_takes_no_other_with_it(workspace: Workspace) -> None:
    good = {f"good{n}.md": f"# Good {n}\n".encode() for n in range(5)}
    collect(workspace, good | {"killer.csv": SLOW})
    reports: list[ParseReport] = []
    thread = threading.Thread(target=lambda: reports.append(run(config(), workspace)))
    thread.start()
    victim = None
    while thread.is_alive():  # the worker that is busy for long is the one with the killer
        for pid in children():
            with_time = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            busy_seconds = int(with_time[11]) / os.sysconf("SC_CLK_TCK")
            size = Path(f"/proc/{pid}/statm").read_text().split()[1]
            if victim is None and busy_seconds > 1.5 and int(size) * 4096 > 200 * 2**20:
                victim = pid
                os.kill(pid, signal.SIGSEGV)
        time.sleep(0.02)
    thread.join()
    (report,) = reports
    assert victim, "the slow document was done before it could be killed"
    assert [(q.uri, q.reason) for q in report.quarantined] == [("killer.csv", Reason.CRASHED)]
    assert report.quarantined[0].detail == "the parser process died: SIGSEGV"
    assert report.parsed == 5


def test_killing_the_run_leaves_no_worker_and_the_next_run_cleans_up(workspace: Workspace) -> None:
    collect(workspace, {"a.csv": SLOW})
    (workspace.root / "params.yaml").write_text("parse: {workers: 1}\n")
    parent = subprocess.Popen([sys.executable, "-m", "pipelines.parse", "--workspace", workspace.root], cwd=ROOT)

    def workers() -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if b"parse.worker" in line and line.rstrip(b"\0").endswith(f"\0{parent.pid}".encode()):
                found.append(path.parent.name)
        return found

    deadline = time.monotonic() + 30
    while not workers() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)  # so that the worker is past closing itself in
    assert workers()
    parent.kill()
    parent.wait()
    while workers() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not workers()
    assert list((workspace.state / "parse").iterdir())
    collect(workspace, {"a.md": b"# One\n"})
    run(config(), workspace)
    assert not (workspace.state / "parse").exists()


def test_a_worker_has_no_network_no_secrets_and_no_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pipelines.parse import workers

    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    environment = workers._environment(tmp_path)
    assert "canary" not in environment.values()
    code = """
import os, socket, sys
from pipelines.parse import worker
worker._close_in(os.getppid())
for attempt in (lambda: socket.create_connection(("127.0.0.1", 9)), lambda: socket.getaddrinfo("localhost", 80),
                lambda: socket.socket().connect(("127.0.0.1", 9))):
    try:
        attempt()
    except OSError as error:
        assert "no network" in str(error)
    else:
        raise SystemExit("connected")
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment, cwd=tmp_path)


def test_a_fingerprint_names_versions_and_not_limits() -> None:
    name = fingerprint(config().parse)
    assert "unstructured-" in name and "markdown-it-py-" in name and "\t" not in name
    assert fingerprint(config(timeout_seconds=1, memory_mib=300, max_text_mib=1).parse) == name


def test_plans_need_no_files() -> None:
    bad = ElementsRow("a", "1" * 64, "text/plain", "quarantined", None, "1" * 64, Reason.TIMEOUT, "slow")
    document = Document("a", "1" * 64, 5, "text/plain")
    parse = config().parse
    previous = planning.Previous({"a": bad}, planning.limits_text(parse))
    assert len(planning.make_plan([document], previous, True, "p", parse).wanted) == 1


def test_rows_round_trip_whatever_the_detail_says() -> None:
    row = ElementsRow("a", "1" * 64, "text/plain", "quarantined", None, "1" * 64, Reason.CORRUPT, "a\tb\nc")
    assert ElementsRow.from_row(row.to_row()).detail == "a b c"


def test_command(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--workspace", str(workspace.root)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    (workspace.root / "params.yaml").write_text("{}\n")
    assert command.main(["--workspace", str(workspace.root)]) == 3
    collect(workspace, {"a.md": b"# One\n", "b.md": b""})
    assert command.main(["--workspace", str(workspace.root), "--set", "parse.workers=1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["parsed"], report["quarantined"][0]["reason"]) == (1, "empty")


# -- real files --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def test_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = os.environ.get("SNAPDEX_TEST_DATA")
    if not source:
        pytest.skip("SNAPDEX_TEST_DATA names no folder with tools/unpack-data and data/")
    target = tmp_path_factory.mktemp("data")
    subprocess.run([Path(source) / "tools" / "unpack-data", target, "tika-test-docs"], check=True)
    return target


def test_nasty_files_end_in_exactly_one_state(workspace: Workspace, test_data: Path) -> None:
    files = sorted(path for path in (test_data / "tika-test-docs" / "files").rglob("*") if path.is_file())
    assert len(files) > 150
    collect(workspace, {f"{n:03}{path.suffix}": path.read_bytes() for n, path in enumerate(files)})
    report = run(config(workers=2, timeout_seconds=20), workspace)
    states = Counter(row.state for row in rows(workspace).values())
    assert states["ok"] + states["quarantined"] == len(files)
    assert states["quarantined"] == len(report.quarantined)
    assert not {q.reason for q in report.quarantined} & {Reason.CRASHED, Reason.OUT_OF_MEMORY}
    assert states["ok"] >= 70
    assert str(workspace.root) not in workspace.manifest(INDEX, "elements").read_text()
