"""A server with OpenAI's API: patient while it is busy, plain where it refuses, and silent about the key.

The key comes from OPENAI_API_KEY, goes into one header, and never into a log, an error or a repr.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pipelines.errors import ConfigError, InputError, IntegrityError, ServiceUnavailable

if TYPE_CHECKING:
    import httpx

OPENAI = "https://api.openai.com/v1"
ATTEMPTS = 6
ATTEMPTS_BEFORE_A_PERSON = 2
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 10.0
LONGEST_LINE = 2**20  # bytes
SHOWN = 300  # characters of what a server says about a failure


def base_url(endpoint: str) -> str:
    """What a section's `endpoint` means, which may be nothing."""
    return (endpoint or os.environ.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")


def without_password(url: str) -> str:
    """The URL as it can be shown."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def key_for(url: str, section: str) -> str:
    """The key, which may be empty for other servers than OpenAI's own. Raises `ConfigError`; no request is made."""
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise ConfigError(f"{section}.endpoint is not a URL", hint="example: http://localhost:11434/v1")
    key = os.environ.get("OPENAI_API_KEY", "")
    if url == OPENAI and not key:
        raise ConfigError("OpenAI needs a key", hint=f"set OPENAI_API_KEY, or {section}.endpoint for another server")
    return key


@dataclass(frozen=True)
class Purpose:
    """What a server is asked for, in the words of its errors."""

    section: str  # of the parameters, such as `embed`
    gives: str  # such as `embeddings`
    model: str
    refusal_hint: str
    model_key: str = ""  # the parameter that names the model; empty: `model` of the section

    @property
    def names_model(self) -> str:
        return self.model_key or f"{self.section}.model"


@dataclass(frozen=True)
class _Secret:
    value: str = field(repr=False)


class Service:
    """A client of one server, for several threads; `sleep`, `clock` and `chance` are for tests.

    patient: whether it goes on for minutes where the server does not answer, as a job would; a person who waits is told
    after two attempts, or after one that took as long as it may.
    """

    def __init__(
        self,
        url: str,
        purpose: Purpose,
        key: str = "",
        requests_per_minute: int = 0,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        patient: bool = True,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._url = url
        self._purpose = purpose
        self._key = _Secret(key)
        self._interval_seconds = 60 / requests_per_minute if requests_per_minute else 0.0
        self._timeout_seconds = timeout_seconds
        self._patient = patient
        self._sleep, self._clock, self._chance = sleep, clock, chance
        self._next_request = 0.0
        self._lock = threading.Lock()
        self._closed = False
        self._client: httpx.Client | None = None
        self.shown = without_password(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Requests that are under way are not tried again."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            client.close()

    def get(self, path: str, **query: str | int) -> Any:
        """The decoded answer. Raises what `post` raises."""
        return self._answered(lambda client: client.get(f"{self._url}{path}", params=query))[1]

    def post(self, path: str, body: dict[str, Any], *, made: Callable[[], Any] | None = None) -> Any:
        """The decoded answer, after as many attempts as it takes and is sensible.

        made: of a request that makes something that must not be made twice, looks for it, and is asked before every
        attempt: what it finds is the answer. An attempt whose answer was lost may have made it.

        Raises `ServiceUnavailable` when the server does not get well in time, `ConfigError` when it does not know the
        key or the model, `InputError` when it refuses the request.
        """
        return self._answered(lambda client: client.post(f"{self._url}{path}", json=body), made=made)[1]

    def upload(
        self, path: str, file: Path, name: str, fields: Mapping[str, str], *, made: Callable[[], Any] | None = None
    ) -> Any:
        """`post` of a form with a file. name: what the server shall call the file."""

        def send(client: "httpx.Client") -> "httpx.Response":
            with file.open("rb") as data:
                form = {"file": (name, data, "application/jsonl")}
                return client.post(f"{self._url}{path}", data=dict(fields), files=form)

        return self._answered(send, made=made)[1]

    @contextmanager
    def lines(self, path: str, body: dict[str, Any]) -> Iterator[Iterator[str]]:
        """The lines of an answer as they come. Raises what `post` raises; one that is cut off is not asked again."""
        import httpx

        def send(client: "httpx.Client") -> "httpx.Response":
            response = client.send(client.build_request("POST", f"{self._url}{path}", json=body), stream=True)
            if not response.is_success:
                response.read()
            return response

        response, _ = self._answered(send, stream=True)
        assert response is not None
        try:
            yield self._lines(response.iter_bytes())
        except httpx.RequestError as error:
            raise self.unavailable(f"{type(error).__name__} in the middle of an answer") from None
        finally:
            response.close()

    def _lines(self, parts: Iterator[bytes]) -> Iterator[str]:
        """Lines of an event stream, which end with a line feed: other separators of Unicode are text."""
        rest = b""
        for part in parts:
            *whole, rest = (rest + part).split(b"\n")
            if len(rest) > LONGEST_LINE:
                raise self.wrong("a line that does not end")
            yield from (line.decode("utf-8", "replace").removesuffix("\r") for line in whole)
        if rest:
            yield rest.decode("utf-8", "replace")

    def wrong(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"{self.shown} answered with {what}; nothing of it was stored",
            hint=f"check the server and {self._purpose.names_model}",
        )

    def unavailable(self, reason: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"{self.shown} does not answer with {self._purpose.gives}: {reason}",
            hint="try again later; finished work is kept"
            if self._patient
            else f"is it running, and {self._purpose.section}.endpoint right? else try again",
        )

    def said(self, text: str) -> str:
        """What the server says, as it can be shown: in one line, not too long, and without the key."""
        said = " ".join(text.split())
        return (said.replace(self._key.value, "[key]") if self._key.value else said)[:SHOWN]

    def _answered(
        self,
        send: "Callable[[httpx.Client], httpx.Response]",
        *,
        stream: bool = False,
        made: Callable[[], Any] | None = None,
    ) -> tuple["httpx.Response | None", Any]:
        """A response of success, and what its JSON says, unless it is streamed; no response where `made` found it."""
        import httpx

        reason, pause = "", 0.0
        for attempt in range(ATTEMPTS if self._patient else ATTEMPTS_BEFORE_A_PERSON):
            if attempt and not self._closed:
                self._sleep(pause)
            if attempt and self._closed:
                reason = "it was closed"
                break
            if made is not None and (there := made()) is not None:
                return None, there
            self._wait_for_turn()
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt) * (0.5 + self._chance())
            client = self._opened()
            try:
                response = send(client)
            except httpx.RequestError as error:
                reason = type(error).__name__
                if isinstance(error, httpx.TimeoutException) and not self._patient:
                    break
                continue
            if response.is_success:
                try:
                    return response, None if stream else response.json()
                except (ValueError, RecursionError):
                    reason = "an answer that is not JSON"
                    continue
            reason = f"status {response.status_code}"
            if response.status_code not in {408, 409, 429} and response.status_code < 500:
                raise self._refused(response)
            asked = _retry_after_seconds(response.headers.get("Retry-After"))
            if asked is not None and asked > LONGEST_PAUSE_SECONDS:
                reason += f", and asks to wait {asked:.0f} s"
                break
            pause = max(pause, asked or 0.0)
        raise self.unavailable(reason)

    def _opened(self) -> "httpx.Client":
        import httpx

        with self._lock:
            if self._client is None:
                headers = {"Authorization": f"Bearer {self._key.value}"} if self._key.value else {}
                connecting = min(self._timeout_seconds, CONNECT_SECONDS)
                self._client = httpx.Client(
                    headers=headers, timeout=httpx.Timeout(self._timeout_seconds, connect=connecting)
                )
                self._closed = False
            return self._client

    def _wait_for_turn(self) -> None:
        if not self._interval_seconds:
            return
        with self._lock:
            now = self._clock()
            turn = max(now, self._next_request)
            self._next_request = turn + self._interval_seconds
        if now < turn:
            self._sleep(turn - now)

    def _refused(self, response: "httpx.Response") -> ConfigError | InputError:
        status, purpose = response.status_code, self._purpose
        if status in {401, 403}:
            return ConfigError(f"{self.shown} does not accept the key: status {status}", hint="check OPENAI_API_KEY")
        if status == 404 or status < 400:
            return ConfigError(
                f"{self.shown} has no {purpose.gives} of {purpose.model!r}: status {status}",
                hint=f"check {purpose.section}.endpoint and {purpose.names_model}",
            )
        said = self.said(response.text)
        return InputError(f"{self.shown} refuses the request: status {status}: {said}", hint=purpose.refusal_hint)


def _retry_after_seconds(value: str | None) -> float | None:
    """Seconds from a `Retry-After` header, which holds seconds or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
