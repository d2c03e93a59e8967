"""Names of documents: URIs, and the patterns that include and exclude them."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.collect.patterns import NOT_INCLUDED, rules
from pipelines.collect.uri import from_uri, to_uri
from pipelines.errors import ConfigError

PIECES = st.sampled_from([b"%", b"4", b"A", b"f", b"\n", b"\xff", b"\xc3", b"\xa9", b"\xc2", b"\x85", b"/", b" "])


@given(st.one_of(st.binary(), st.lists(PIECES).map(b"".join)))
@example(b"%%41")
@example(b"%4\n")
@example(b"\xed\xa0\x80")  # a surrogate, which is not valid UTF-8
def test_every_path_has_a_uri_of_its_own(path: bytes) -> None:
    uri = to_uri(path)
    assert from_uri(uri) == path
    uri.encode("utf-8")  # raises for lone surrogates
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in uri)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (b"docs/a b.md", "docs/a b.md"),
        ("docs/Ünïcode/日本.md".encode(), "docs/Ünïcode/日本.md"),
        (b"100%.md", "100%.md"),
        (b"100%25.md", "100%2525.md"),
        (b"tab\tand\nline", "tab%09and%0Aline"),
        (b"latin-\xe9", "latin-%E9"),
        (b"\xc2\x9b[31m", "%C2%9B[31m"),  # the one-byte form of ESC [ reaches no terminal either
    ],
)
def test_only_what_must_be_is_encoded(path: bytes, uri: str) -> None:
    assert to_uri(path) == uri


def test_composed_and_decomposed_letters_are_two_names() -> None:
    assert to_uri("\u00e9".encode()) != to_uri("e\u0301".encode())


PATTERNS: list[tuple[str, list[str], list[str]]] = [
    ("**", ["a", "a/b/c.md", ".hidden"], []),
    ("**/.*", [".git/config", "a/.b", "a/.b/c"], ["a/b", "a.b"]),
    ("*.md", ["a.md", "x/y/a.md"], ["a.mdx", "md"]),
    ("docs/*.md", ["docs/a.md"], ["docs/x/a.md", "x/docs/a.md"]),
    ("/a.md", ["a.md"], ["x/a.md"]),
    ("docs/**/*.md", ["docs/a.md", "docs/x/y/a.md"], ["a.md", "docs/a.txt"]),
    ("docs/**", ["docs/a", "docs/x/y"], ["docs", "docs2/a"]),
    ("drafts/", ["drafts/a", "x/drafts/a/b"], ["drafts", "x/drafts"]),
    ("drafts", ["drafts", "drafts/a", "x/drafts/a"], ["drafts2", "my-drafts"]),
    ("**/~$*", ["~$a.docx", "x/~$a.docx"], ["a~$.docx"]),
    ("?.txt", ["a.txt"], ["ab.txt", ".txt"]),
    ("[a-c]x[!0-9]", ["axb", "cxx"], ["dxb", "ax1", "ax/"]),
    (r"\*.md", ["*.md"], ["a.md"]),
    ("a+(b).md", ["a+(b).md"], ["aab.md"]),
    ("x**y", ["xy", "xzzy"], ["x/y"]),
]


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [*PATTERNS, ("a[b", ["a[b"], ["ab"])],  # git takes an unclosed bracket to match nothing, we take it literally
)
def test_patterns_match(pattern: str, yes: list[str], no: list[str]) -> None:
    compiled = rules([pattern], [])
    assert [uri for uri in yes + no if compiled.refusal(uri) is None] == yes


@pytest.mark.parametrize(("pattern", "yes", "no"), PATTERNS)
def test_patterns_match_what_git_ignores(pattern: str, yes: list[str], no: list[str], tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text(pattern + "\n")
    names = [name for name in yes + no if not name.startswith(".git/") and not name.endswith("/")]
    command = ["git", "-C", str(tmp_path), "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(command, input="\n".join(names), capture_output=True, text=True)
    assert set(done.stdout.splitlines()) == set(yes) & set(names)


def test_the_rule_that_refuses_is_named() -> None:
    compiled = rules(["*.md"], ["**/.*", "tmp/"])
    assert compiled.refusal("a/.b.md") == "**/.*"
    assert compiled.refusal("tmp/a.md") == "tmp/"
    assert compiled.refusal("a.txt") == NOT_INCLUDED
    assert compiled.refusal("a.md") is None
    assert compiled.pruning("tmp/") == "tmp/"
    assert compiled.pruning("docs/") is None


@pytest.mark.parametrize("pattern", ["", "/", "!keep.md", "[z-a]"])
def test_a_pattern_without_meaning_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"collect\.exclude"):
        rules(["**"], [pattern])


def test_including_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"collect\.include"):
        rules([], [])
