"""The page at /, as a browser shows it."""

import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from tests.index.state import State
from tests.serve.conftest import HOSTILE, serving

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_a_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


class Elements(HTMLParser):
    """The elements of a page that are there, as (name, attributes), and its text outside of script and style."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chromium")


def shown(client: httpx.Client, profile: Path, **said: str) -> Elements:
    """What a browser makes of the page, with the query and the choices in its address."""
    assert BROWSER
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=8000",
        f"--user-data-dir={profile}",
    ]
    address = f"{client.base_url}/#{urlencode(said)}"
    done = subprocess.run(
        [BROWSER, *options, "--dump-dom", address], capture_output=True, text=True, check=True, timeout=60
    )
    return Elements(done.stdout)


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
def test_hits_are_shown_with_their_place_and_the_words(client: httpx.Client, profile: Path) -> None:
    page = shown(client, profile, q="when does the harbour gate open")
    assert "gate.md" in page.text and "Lamps" in page.text and "4 passages in v2" in page.text
    assert "harbour" in page.text and len(page.named("mark")) >= 3
    assert len([each for each in page.named("li") if each.get("class") == "hit"]) == 4


@needs_a_browser
def test_hostile_text_stays_text(client: httpx.Client, profile: Path) -> None:
    page = shown(client, profile, q="ferry island <img src=x onerror=owned()>")
    assert HOSTILE.replace("\u202e", "\ufffd") in page.text
    assert "notes/javascript:alert(1).md" in page.text
    assert len(page.named("script")) == 1 and page.named("img") == []
    assert not any("javascript" in (each.get("href") or "") for _, each in page.found)
    assert "\u202e" not in page.text


@needs_a_browser
def test_two_versions_side_by_side(client: httpx.Client, profile: Path) -> None:
    page = shown(client, profile, q="when does the harbour gate open", **{"at": "v1", "with": "v2"})
    assert [each.get("class") for each in page.named("body")] == ["two"]
    assert "opens at six" in page.text and "opens at seven" in page.text
    assert "Documents from v1 to v2: 1 added, 1 modified, 1 renamed" in page.text
    assert "other text" in page.text and "not among the 3 of v1" in page.text
    assert "old/lamp.md → new/lamp.md" in page.text


@needs_a_browser
def test_an_abstention_is_shown_as_one(client: httpx.Client, profile: Path) -> None:
    page = shown(client, profile, q="quarterly turnover of zebra farms")
    assert "There is nothing relevant in v2." in page.text
    assert "they probably do not answer" in page.text


@needs_a_browser
def test_an_error_is_said(client: httpx.Client, profile: Path) -> None:
    page = shown(client, profile, q="x" * 2001)
    assert "2,001 characters" in page.text and "ask in fewer words" in page.text


@needs_a_browser
def test_it_asks_for_the_token(book: State, profile: Path) -> None:
    with serving(book, tokens=["a-token-of-the-test"]) as client:
        page = shown(client, profile, q="when does the harbour gate open")
    assert "This service asks for a token" in page.text and "gate.md" not in unescape(page.text)
    hidden = {each["id"]: "hidden" in each for each in page.named("form")}
    assert hidden == {"enter": False, "ask": True}
