"""The page at /, as a browser shows it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urlencode

import httpx
import pytest

from tests.http_server import Server, chatting
from tests.index.state import State
from tests.serve.browser import PROGRAM, Browser, Tab, browsing
from tests.serve.conftest import HOSTILE, serving

needs_a_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")


QUESTION = "when does the harbour gate open"


class Elements(HTMLParser):
    """The elements of a page that are there, as (name, attributes), and its text outside of script and style."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.pieces: list[tuple[str, str]] = []  # (element, text)
        self._inside = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data
            self.pieces.append((self._inside, data))

    def has(self, name: str, text: str) -> bool:
        return (name, text) in self.pieces

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


SETTLED = """document.readyState === "complete" && !document.querySelector("[aria-busy]")
    && ["ask", "enter", "problem"].some(id => !document.getElementById(id).hidden)"""


@contextmanager
def opened(browser: Browser, client: httpx.Client, width: int = 1200, **said: str) -> Iterator[Tab]:
    """The page when it has come to rest, with the query and the choices in its address."""
    with browser.tab() as tab:
        tab.open(f"{client.base_url}/#{urlencode(said)}", width)
        tab.wait(SETTLED)
        yield tab


def shown(client: httpx.Client, browser: Browser, **said: str) -> Elements:
    """What is on it."""
    with opened(browser, client, **said) as tab:
        return elements(tab)


def elements(tab: Tab) -> Elements:
    return Elements(tab.value("document.documentElement.outerHTML"))


def test_the_page_loads_nothing_and_allows_nothing_else(client: httpx.Client) -> None:
    answer = client.get("/")
    policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'" and policy["require-trusted-types-for"] == "'script'"
    for name in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", policy[name])
    page = Elements(answer.text)
    assert not [
        each for _, each in page.found if "style" in each or "src" in each or any(n.startswith("on") for n in each)
    ]
    assert all((each["href"] or "").startswith(("data:", "#")) for name in ("link", "a") for each in page.named(name))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|localStorage|cookie", answer.text)


def test_whoever_does_not_see_it_finds_their_way(client: httpx.Client) -> None:
    """Language, landmarks, a way past the form, a name for every control, and news that are read out."""
    page = Elements(client.get("/").text)
    assert page.named("html")[0]["lang"] == "en" and page.named("title")
    assert (
        len(page.named("main")) == len(page.named("h1")) == len(page.named("header")) == len(page.named("footer")) == 1
    )
    ids = [each["id"] for _, each in page.found if "id" in each]
    assert len(ids) == len(set(ids))
    assert page.named("a")[0]["href"] == "#results" and "results" in ids
    labels = {each.get("for") for each in page.named("label")}
    assert {each["id"] for each in page.named("input")} <= labels
    assert len(page.named("select")) == 4 and len(page.named("label")) == 6  # these stand inside theirs
    assert {"status", "search", "alert"} <= {each.get("role") for _, each in page.found}
    assert [each["aria-live"] for each in page.named("p") if "aria-live" in each] == ["polite"]


@needs_a_browser
def test_hits_are_shown_with_their_place_and_the_words(client: httpx.Client, browser: Browser) -> None:
    page = shown(client, browser, q="when does the harbour gate open")
    assert "gate.md" in page.text and "Lamps" in page.text and "4 passages in v2" in page.text
    assert "harbour" in page.text and len(page.named("mark")) >= 3
    assert len([each for each in page.named("li") if each.get("class") == "hit"]) == 4


@needs_a_browser
def test_hostile_text_stays_text(client: httpx.Client, browser: Browser) -> None:
    page = shown(client, browser, q="ferry island <img src=x onerror=owned()>")
    assert HOSTILE.replace("\u202e", "\ufffd") in page.text
    assert "notes/javascript:alert(1).md" in page.text
    assert len(page.named("script")) == 1 and page.named("img") == []
    assert not any("javascript" in (each.get("href") or "") for _, each in page.found)
    assert "\u202e" not in page.text


@needs_a_browser
def test_two_versions_side_by_side(client: httpx.Client, browser: Browser) -> None:
    page = shown(client, browser, q="when does the harbour gate open", **{"at": "v1", "with": "v2"})
    assert [each.get("class") for each in page.named("body")] == ["two"]
    assert "opens at six" in page.text and "opens at seven" in page.text
    assert "Documents from v1 to v2: 1 added, 1 modified, 1 renamed" in page.text
    assert "other text" in page.text and "not among the 3 of v1" in page.text
    assert "old/lamp.md → new/lamp.md" in page.text


@needs_a_browser
def test_an_abstention_is_shown_as_one(client: httpx.Client, browser: Browser) -> None:
    page = shown(client, browser, q="quarterly turnover of zebra farms")
    assert "There is nothing relevant in v2." in page.text
    assert "they probably do not answer" in page.text


@pytest.fixture
def chat() -> Iterator[Server]:
    yield from chatting(lambda _: "")


def writes(*pieces: str, end: str = "data: [DONE]\n\n") -> bytes:
    """What a server streams."""
    events = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    return ("".join(f"data: {json.dumps(event)}\n\n" for event in events) + end).encode()


@needs_a_browser
def test_an_answer_is_shown_with_its_sources_in_their_passages(client: httpx.Client, browser: Browser) -> None:
    page = shown(client, browser, do="ask", q=QUESTION)
    assert "The harbour gate opens at seven. [1]" in page.text and "answered from v2" in page.text
    assert page.has("mark", "The harbour gate opens at seven.")
    assert page.has("bdi", "gate.md")
    assert any(each.get("aria-label") == "source 1" for each in page.named("button"))


@needs_a_browser
def test_answers_of_two_versions_side_by_side(client: httpx.Client, browser: Browser) -> None:
    page = shown(client, browser, do="ask", q=QUESTION, at="v1", **{"with": "v2"})
    assert [each.get("class") for each in page.named("body")] == ["two"]
    assert "gate opens at six. [1]" in page.text and "gate opens at seven. [1]" in page.text
    assert "Documents from v1 to v2: 1 added" in page.text


@needs_a_browser
def test_no_answer_says_why_and_what_is_nearest(client: httpx.Client, browser: Browser) -> None:
    page = shown(client, browser, do="ask", q="zebra quantum")
    assert "I do not know." in page.text and "no answer in v2" in page.text
    assert "Nothing in the index is near enough to the question." in page.text
    assert "The nearest documents" in page.text and page.has("bdi", "tea.md")


@needs_a_browser
def test_what_a_model_writes_is_text_and_checked(book: State, chat: Server, browser: Browser) -> None:
    chat.right = lambda _: (
        200,
        {},
        writes("The harbour gate opens at seven [1]. ", f"Caesar wrote {HOSTILE} to Rome in Latin."),
    )
    with serving(book, "generate.model=openai:small", f"generate.endpoint={chat.url}") as client:
        page = shown(client, browser, do="ask", q=QUESTION)
        assert "The harbour gate opens at seven [1]." in page.text and "openai:small" in page.text
        assert HOSTILE.replace("\u202e", "\ufffd") in page.text and "[?] marks what no passage supports" in page.text
        assert len(page.named("script")) == 1 and page.named("img") == []
        chat.right = lambda _: (200, {}, writes("The harbour", end='data: {"error": {"type": "overloaded"}}\n\n'))
        page = shown(client, browser, do="ask", q=QUESTION)
        assert "overloaded" in page.text and "The harbour" not in page.text


@needs_a_browser
@pytest.mark.parametrize("do", ["search", "ask"])
@pytest.mark.parametrize("place", ["at", "with"])
def test_a_link_to_a_version_that_is_gone_says_so(client: httpx.Client, browser: Browser, do: str, place: str) -> None:
    page = shown(client, browser, do=do, q=QUESTION, **{place: "v9"})
    assert "index handbook has no version v9" in page.text and "choose another version" in page.text
    assert "gate.md" not in page.text and page.has("option", "v9")


@needs_a_browser
def test_a_link_may_name_a_version_as_the_command_line_does(
    book: State, client: httpx.Client, browser: Browser
) -> None:
    page = shown(client, browser, q=QUESTION, at=book.version(1).snapshot[:12])
    assert "passages in v1" in page.text and "opens at six" in page.text
    hostile = shown(client, browser, q=QUESTION, at="<img src=x onerror=owned()>")
    assert (
        "at is not the name of a version" in hostile.text
        and "gate.md" not in hostile.text
        and hostile.named("img") == []
    )


@needs_a_browser
def test_it_can_be_used_with_a_keyboard(client: httpx.Client, browser: Browser) -> None:
    with opened(browser, client) as tab:
        assert tab.value("document.activeElement.id") == "query"
        for key in QUESTION:
            tab.press(key)
        tab.press("Enter")
        tab.wait("document.querySelectorAll('.hit').length === 4")
        tab.press("Tab")
        tab.press("Tab")
        assert tab.value("document.activeElement.textContent") == "Ask"
        tab.press("Enter")
        tab.wait("document.querySelector('.reply:not(.draft)')")
        assert "do=ask" in tab.value("location.hash")
        tab.value("document.querySelector('.marker').focus()")
        tab.press("Enter")
        assert tab.value("document.activeElement.className") == "hit"
        assert "gate.md" in tab.value("document.activeElement.textContent")


@needs_a_browser
@pytest.mark.parametrize("said", [{"do": "ask"}, {"do": "search", "at": "v1", "with": "v2"}, {"do": "ask", "at": "v9"}])
def test_it_fits_a_phone(client: httpx.Client, browser: Browser, said: dict[str, str]) -> None:
    with opened(browser, client, 375, q=QUESTION, **said) as tab:
        assert tab.value("document.documentElement.scrollWidth") == 375
        small = (
            "[...document.querySelectorAll('.main, #query, select')].filter(e => e.offsetHeight && e.offsetHeight < 36)"
        )
        assert tab.value(f"{small}.length") == 0


@needs_a_browser
def test_an_error_is_said(client: httpx.Client, browser: Browser) -> None:
    page = shown(client, browser, q="x" * 2001)
    assert "2,001 characters" in page.text and "ask in fewer words" in page.text


@needs_a_browser
def test_it_asks_for_the_token(book: State, browser: Browser) -> None:
    with serving(book, tokens=["a-token-of-the-test"]) as client:
        page = shown(client, browser, q="when does the harbour gate open")
    assert "This service asks for a token" in page.text and "gate.md" not in unescape(page.text)
    hidden = {each["id"]: "hidden" in each for each in page.named("form")}
    assert hidden == {"enter": False, "ask": True}
