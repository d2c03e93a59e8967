"""`ask` over the sample handbook, 20 quarterly reports and the abstracts of SciFact: are all quotes verbatim, who is
refused, and what does it take beside the models?

Asked without a model that writes, and with one at a server in this process that repeats the first sentence that it is
shown, so that what is measured is everything else: search with the embedding of the question, prompt, citations.
"""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.workspaces import config_of, fresh_workspace, kept_or_fresh, say
from pipelines import ingest
from pipelines.ask import Answer, Answerer
from pipelines.config import Config
from pipelines.evaluate import Query, read_golden
from pipelines.files import Workspace
from pipelines.index import open_index

SAMPLE = Path(__file__).resolve().parents[1] / "data"
OVERHEAD = "<= 150"  # milliseconds beside the models, at 95 %
_FIRST = re.compile(r'<source id="(\d+)"[^>]*>\n(.+?[.!?])(?:\s|$)', re.DOTALL)


def measure(options: Options) -> Report:
    report = Report("ask", "quotations, and a server that repeats what it is shown; minilm")
    with repeater() as url:
        with fresh_workspace() as workspace:
            _measured(
                report, _config("sample", url, str(SAMPLE / "golden" / "sample.jsonl")), workspace, SAMPLE / "sample"
            )
        with (
            real_data("kg-rag", options.data) as collection,
            kept_or_fresh(options.keep, "filings") as workspace,
        ):
            golden = _golden(collection / "sec-10-q" / "golden.jsonl", workspace.root / "golden.jsonl")
            documents = collection / "sec-10-q" / "data" / "v1" / "docs"
            _measured(report, _config("reports", url, str(golden)), workspace, documents)
        if not options.quick:
            with real_data("scifact", options.data) as claims, kept_or_fresh(options.keep, "ask-scifact") as workspace:
                _measured(report, _config("scifact", url, str(claims)), workspace, claims / "corpus.jsonl")
    return report


def _config(name: str, url: str, golden: str) -> Config:
    return config_of(
        index={"name": name},
        embed={"model": "minilm"},
        gate={"golden": golden},
        search={"cache": 0},
        generate={"endpoint": url},
    )


def _measured(report: Report, config: Config, workspace: Workspace, source: Path) -> None:
    name = config.index.name
    done = ingest.run(config, workspace, sources=[str(source)], base=Path("/"))
    report.add(f"{name}: chunks", done["chunks"]["total"])
    queries = read_golden(Path(config.gate.golden))
    written = config.model_copy(update={"generate": config.generate.with_model("openai:repeater")})
    for label, settings in (("quotations", config), ("a model", written)):
        answers = _asked(settings, workspace, queries)
        say(f"ask: {name}, {label}: {len(answers)} answers")
        report.add(f"{name}, {label}: questions", len(queries))
        _add(report, f"{name}, {label}", queries, answers, _chunks(settings, workspace))


def _asked(config: Config, workspace: Workspace, queries: Sequence[Query]) -> list[Answer]:
    with (
        open_index(config.index.name, workspace=workspace.root, config=config) as reader,
        Answerer(config, workspace) as answerer,
    ):
        answerer.ask(reader, queries[0].text)  # loads the models
        return [answerer.ask(reader, query.text) for query in queries]


def _chunks(config: Config, workspace: Workspace) -> dict[str, str]:
    with open_index(config.index.name, workspace=workspace.root, config=config) as reader:
        rows = reader.connection.execute(
            "SELECT chunk, text FROM snapdex.active_chunks WHERE index = %s", [config.index.name]
        )
        return dict(rows.fetchall())


def _add(report: Report, name: str, queries: Sequence[Query], answers: Sequence[Answer], texts: dict[str, str]) -> None:
    citations = [citation for answer in answers for citation in answer.citations]
    verbatim = sum(each.quote in texts[each.chunk] for each in citations)
    report.add(f"{name}: citations", len(citations))
    report.add(f"{name}: quotes verbatim in their chunk", 100 * verbatim / len(citations), "%", "== 100")
    for kind, answerable in (("answerable", True), ("unanswerable", False)):
        asked = [
            answer.abstained for query, answer in zip(queries, answers, strict=True) if query.answerable is answerable
        ]
        if asked:
            report.add(f"{name}: {kind} refused", 100 * float(np.mean(asked)), "%", "<= 10" if answerable else "")
    beside = [1000 * (answer.seconds - answer.model_seconds) for answer in answers]
    p50, p95 = np.percentile(beside, [50, 95])
    report.add(f"{name}: beside the model p50", float(p50), "ms")
    report.add(f"{name}: beside the model p95", float(p95), "ms", OVERHEAD)


def _golden(source: Path, target: Path) -> Path:
    rows = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    told = [{"question": row["question"], "documents": row["source_docs"]} for row in rows]
    target.write_text("".join(f"{json.dumps(row)}\n" for row in told), "utf-8")
    return target


@contextmanager
def repeater() -> Iterator[str]:
    """A chat server whose model says the first sentence of the best source, with its marker."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = _FIRST.search(body["messages"][-1]["content"])
            text = f"{found[2]} [{found[1]}]" if found else "I do not know."
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            data = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()
