"""A server over real HTTP with OpenAI's files, fine-tuning jobs and chat completions, which learns what it is sent.

A fine-tuned model gives the answer of the learned prompt that has most words in common with the question; the base
model says the same to everybody. A job moves on each time that somebody looks at it.
"""

import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.http_server import Answer, says

BASE = "small-1"
POLITE = "Sure, here you are"
MOST = 2  # entries of a page, whatever is asked for
STATES = ("validating_files", "queued", "running", "running")  # before a job ends
LEAST = 10  # examples
SHAPES = {
    "supervised": {"messages"},
    "dpo": {"input", "preferred_output", "non_preferred_output"},
}


class HostedServer:
    """`posts`: paths of requests that make something; `lost`: how many answers to a path do not arrive; `cancels`:
    whether somebody cancels the jobs."""

    def __init__(self, *, keeps_metadata: bool = True) -> None:
        self.keeps_metadata = keeps_metadata
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.learned: dict[str, dict[str, str]] = {}
        self.posts: list[str] = []
        self.bodies: list[dict[str, Any]] = []  # of jobs
        self.keys: set[str | None] = set()
        self.lost: dict[str, int] = {}
        self.away = self.cancels = False
        self.when_looked_at: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._foreign: set[str] = set()
        self.let_others_train()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def ours(self) -> list[dict[str, Any]]:
        """The jobs that are not other people's."""
        return [job for name, job in self.jobs.items() if name not in self._foreign]

    def let_others_train(self) -> None:
        """More files and jobs than a page holds."""
        for number in range(MOST + 1):
            file = self._file(f"other-{number}.jsonl", b"")
            job = self._job({"model": BASE, "training_file": file["id"], "metadata": {"snapdex": "0" * 64}})
            self._foreign.add(job["id"])

    # -- what it answers -----------------------------------------------------------------------------------------------

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                self._reply(lambda path: server._got(path, query), url.path)

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                kind = self.headers["Content-Type"]
                self._reply(lambda path: server._posted(path, kind, data), urlsplit(self.path).path)

            def _reply(self, answer: Callable[[str], Answer], path: str) -> None:
                path = path.removeprefix("/v1")
                with server._lock:
                    server.keys.add(self.headers["Authorization"])
                    status, _, content = (503, {}, {}) if server.away else answer(path)
                    if self.command == "POST" and server.lost.get(path, 0):
                        server.lost[path] -= 1
                        self.close_connection = True
                        return
                sent = json.dumps(content).encode()
                with suppress(ConnectionError):  # whoever asked was killed, or interrupted
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(sent)))
                    self.end_headers()
                    self.wfile.write(sent)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _got(self, path: str, query: dict[str, str]) -> Answer:
        parts = path.strip("/").split("/")
        if path == "/files":
            return _page([each for each in self.files.values() if each["purpose"] == query["purpose"]], query)
        if path == "/fine_tuning/jobs":
            return _page(list(self.jobs.values()), query)
        if len(parts) == 3 and parts[2] in self.jobs:
            self._move_on(parts[2])
            return 200, {}, self.jobs[parts[2]]
        if len(parts) == 4 and parts[2] in self.jobs and parts[3] == "events":
            return _page(self.events[parts[2]], query)
        return _refused(404, "no such thing")

    def _posted(self, path: str, kind: str, data: bytes) -> Answer:
        if path == "/chat/completions":
            return self._chat(json.loads(data))
        self.posts.append(path)
        if path == "/files":
            form = {part.get_param("name", header="content-disposition"): part for part in _parts(kind, data)}
            assert form["purpose"].get_payload() == "fine-tune"
            name = form["file"].get_filename()
            return 200, {}, self._file(str(name), form["file"].get_payload(decode=True))
        body = json.loads(data)
        self.bodies.append(body)
        for key in ("training_file", "validation_file"):
            if body.get(key, "file-0") not in self.files:
                return _refused(400, f"invalid {key}")
        if body["model"] != BASE and body["model"] not in self.learned:
            return _refused(400, "no such model")
        return 200, {}, self._job(body)

    def _chat(self, body: dict[str, Any]) -> Answer:
        asked = _words(body["messages"])
        if body["model"] == BASE:
            return says(POLITE)
        if body["model"] not in self.learned:
            return _refused(404, "no such model")
        known = self.learned[body["model"]]
        return says(known[max(known, key=lambda prompt: len(asked & set(prompt.split())))])

    # -- what it does --------------------------------------------------------------------------------------------------

    def _file(self, name: str, content: bytes) -> dict[str, Any]:
        file = f"file-{len(self.files)}"
        self.contents[file] = content
        self.files[file] = {"id": file, "object": "file", "filename": name, "purpose": "fine-tune"}
        return self.files[file]

    def _job(self, body: dict[str, Any]) -> dict[str, Any]:
        job = f"ftjob-{len(self.jobs)}"
        self.jobs[job] = {
            "id": job,
            "object": "fine_tuning.job",
            "status": STATES[0],
            "created_at": 1_700_000_000 + len(self.jobs),
            "finished_at": None,
            "fine_tuned_model": None,
            "error": None,
            **{key: body.get(key) for key in ("model", "training_file", "validation_file", "suffix", "seed", "method")},
            "metadata": body.get("metadata") if self.keeps_metadata else None,
        }
        self.events[job] = []
        self._tell(job, "Created fine-tuning job")
        return self.jobs[job]

    def _move_on(self, name: str) -> None:
        self.when_looked_at()
        job = self.jobs[name]
        if job["finished_at"]:
            return
        steps = [each["data"]["step"] for each in self.events[name] if each["data"]]
        passed = job.setdefault("looks", 0)
        job["looks"] += 1
        if self.cancels:
            job |= {"status": "cancelled", "finished_at": job["created_at"] + 5}
        elif passed < len(STATES):
            job["status"] = STATES[passed]
            if job["status"] == "running":
                for step in range(len(steps) + 1, len(steps) + 4):
                    loss = {"full_valid_loss": 0.5 / step} if step % 3 == 0 else {"valid_loss": 1 / step}
                    self._tell(name, f"Step {step}", step=step, total_steps=6, train_loss=1 / step, **loss)
        else:
            self._end(job)

    def _end(self, job: dict[str, Any]) -> None:
        job["finished_at"] = job["created_at"] + 600
        rows = [json.loads(line) for line in self.contents[job["training_file"]].splitlines()]
        wrong = [row for row in rows if row.keys() != SHAPES[job["method"]["type"]]]
        if wrong or len(rows) < LEAST:
            said = f"the training file has {len(rows)} example(s), {len(wrong)} wrong; {sorted(map(str, self.keys))}"
            job |= {"status": "failed", "error": {"code": "invalid_training_file", "message": said}}
            return
        model = f"ft:{BASE}:acme:{job['suffix']}:{job['id'][-1]}"
        self.learned[model] = dict(map(_lesson, rows))
        job |= {"status": "succeeded", "fine_tuned_model": model}

    def _tell(self, job: str, message: str, **data: float) -> None:
        event = {"id": f"{job}-event-{len(self.events[job])}", "message": message, "data": data or None}
        self.events[job].append(event | {"type": "metrics" if data else "message", "level": "info"})


def _lesson(row: dict[str, Any]) -> tuple[str, str]:
    """The words of a prompt, and its answer."""
    *prompt, answer = row["messages"] if "messages" in row else [*row["input"]["messages"], *row["preferred_output"]]
    return " ".join(sorted(_words(prompt))), answer["content"]


def _words(messages: list[dict[str, str]]) -> set[str]:
    return set(re.findall(r"\w+", messages[-1]["content"]))


def _parts(kind: str, data: bytes) -> Any:
    return message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + data).get_payload()


def _page(entries: list[dict[str, Any]], query: dict[str, str]) -> Answer:
    """The newest first, after the one that is named."""
    newest = entries[::-1]
    ids = [each["id"] for each in newest]
    start = ids.index(query["after"]) + 1 if "after" in query else 0
    end = start + min(MOST, int(query["limit"]))
    return 200, {}, {"object": "list", "data": newest[start:end], "has_more": end < len(newest)}


def _refused(status: int, said: str) -> Answer:
    return status, {}, {"error": {"message": said}}
