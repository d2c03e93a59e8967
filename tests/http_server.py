"""A server over real HTTP that answers what a test tells it to."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = tuple[int, dict[str, str], Any]  # status, headers, content: bytes, or what becomes JSON
Answerer = Callable[[dict[str, Any]], Answer | None]


class Server:
    """Answers each request with the next of `answers`, and with `right` when there are none left; None: hang up."""

    def __init__(self, right: Answerer) -> None:
        self.right = right
        self.answers: list[Answerer] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.bodies.append(body)
                server.keys.append(self.headers["Authorization"])
                server.paths.append(self.path)
                answer = (server.answers.pop(0) if server.answers else server.right)(body)
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, content = answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(data))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
                if len(data) < int(headers.get("Content-Length", 0)):
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def says(text: str, **more: Any) -> Answer:
    """An answer of the chat completions API."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    words = len(text.split())
    return 200, {}, {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": words}} | more


def asked(body: dict[str, Any]) -> str:
    """What the user said last."""
    return str(body["messages"][-1]["content"])


def chatting(answer: Callable[[str], str]) -> Iterator[Server]:
    """A chat server that answers what the user said last, for a fixture."""
    with Server(lambda body: says(answer(asked(body)))) as running:
        yield running
