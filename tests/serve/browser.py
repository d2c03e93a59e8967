"""A real browser: what a page becomes in it, with a keyboard and a width."""

import json
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
WAIT_SECONDS = 30.0
KEYS = {"Tab": 9, "Enter": 13, " ": 32}


class Tab:
    """A page, with a session of its own; over the DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._last = 0

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        self._connection.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._connection.recv(WAIT_SECONDS))
            if said.get("id") == self._last:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result

    def value(self, script: str) -> Any:
        """Of an expression in the page."""
        return self("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait(self, condition: str) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while not self.value(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never: {condition}\n{self.value('document.body.innerText')}"
            time.sleep(0.02)

    def open(self, url: str, width: int = 1200, height: int = 900) -> None:
        narrow = width < 600
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=narrow)
        self("Page.navigate", url=url)

    def press(self, key: str) -> None:
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        about = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS.get(key, 0)}
        self("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self) -> bytes:
        """The whole page as PNG."""
        return b64decode(self("Page.captureScreenshot", captureBeyondViewport=True)["data"])


class Browser:
    """The program; `tab` opens a page in it."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextmanager
    def tab(self) -> Iterator[Tab]:
        made = httpx.put(f"http://127.0.0.1:{self._port}/json/new", trust_env=False).json()
        with connect(made["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
            yield Tab(connection)
        httpx.get(f"http://127.0.0.1:{self._port}/json/close/{made['id']}", trust_env=False)


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """profile: an empty directory."""
    assert PROGRAM
    process = subprocess.Popen(
        [PROGRAM, *OPTIONS, f"--user-data-dir={profile}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        file, end = profile / "DevToolsActivePort", time.monotonic() + WAIT_SECONDS
        while not (file.exists() and file.read_text("utf-8").count("\n")):
            assert time.monotonic() < end and process.poll() is None, "the browser does not start"
            time.sleep(0.05)
        yield Browser(int(file.read_text("utf-8").split("\n")[0]))
    finally:
        process.kill()
        process.wait()
