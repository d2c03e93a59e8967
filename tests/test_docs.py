"""What the documents tell people to type exists, works, and prints what they show."""

import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest

from pipelines.cli.app import COMMANDS, cli
from pipelines.index.server import EmbeddedServer

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
PROMPT = "$ "
MARK = "--- end of command, exit code"
VARIABLE = [  # what differs from run to run
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{10,64}\b"), "<hash>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "<date>"),
    (re.compile(r"\b\d+(\.\d+)? (s|ms)\b"), "<seconds>"),
    (re.compile(r"\[\d\.\d{3}\]"), "<score>"),
]


def console_blocks(text: str) -> list[str]:
    return re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def transcript(text: str) -> list[tuple[str, str]]:
    """(command, what it printed) of blocks in which commands follow a prompt; a backslash continues a command."""
    steps: list[tuple[str, list[str]]] = []
    continued = False
    for line in text.splitlines():
        if continued:
            steps[-1] = (f"{steps[-1][0]}\n{line}", [])
        elif line.startswith(PROMPT):
            steps.append((line.removeprefix(PROMPT), []))
        elif steps:
            steps[-1][1].append(line)
        continued = line.endswith("\\") and not steps[-1][1]
    return [(command, "\n".join(lines)) for command, lines in steps]


def told_to_type() -> list[tuple[str, str]]:
    """(page, command line) of every `snapdex` in a console block, pipes and lists of commands taken apart."""
    found = []
    for page in PAGES:
        for block in console_blocks(page.read_text("utf-8")):
            for command, _ in transcript(block):
                lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                words: list[str] = []
                for word in [*lexer, ";"]:
                    if set(word) <= set("();<>|&"):
                        if words[:1] == ["snapdex"] or words[:1] == [".venv/bin/snapdex"]:
                            found.append((page.name, shlex.join(["snapdex", *words[1:]])))
                        words = []
                    else:
                        words.append(word)
    return found


def parse(line: str) -> None:
    """Raise `click.UsageError` where the program would."""
    command: click.Command = cli
    context = click.Context(cli, info_name="snapdex")
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            raise click.UsageError(f"no command {words[0]}", context)
        command, context = found, click.Context(found, info_name=words[0], parent=context)
        words = words[1:]
    with suppress(click.exceptions.Exit):  # --help and --version
        command.make_context(context.info_name, words)


@pytest.mark.parametrize(("page", "line"), sorted(set(told_to_type())))
def test_a_documented_command_line_is_understood(page, line):
    try:
        parse(line)
    except click.UsageError as error:
        pytest.fail(f"{page}: {line}: {error.format_message()}")


def test_a_wrong_command_line_would_be_noticed():
    for line in ("snapdex serch x", "snapdex search x --fuzzy", "snapdex db restart", "snapdex search"):
        with pytest.raises(click.UsageError):
            parse(line)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name):
    assert f"snapdex {name}" in (PROJECT / "docs" / "commands.md").read_text("utf-8")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        if anchor and path.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {target}"


def comparable(text: str) -> list[str]:
    for pattern, name in VARIABLE:
        text = pattern.sub(name, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.fixture
def directory(tmp_path):
    yield tmp_path
    for state in tmp_path.rglob(".snapdex"):
        EmbeddedServer(state).stop()


def test_the_story_of_the_readme_is_true(directory):
    """Every command between the markers, in one shell, in an empty directory; the output must be the one shown."""
    told = re.search(r"<!-- test: story -->\n(.*?)<!-- /test -->", PAGES[0].read_text("utf-8"), re.DOTALL)
    assert told, "README.md has no story between its markers"
    steps = [step for block in console_blocks(told[1]) for step in transcript(block)]
    assert steps
    script = "".join(f'{command}\necho "{MARK} $?"\n' for command, _ in steps)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SNAPDEX_", "PG"))}
    done = subprocess.run(
        ["bash"],
        input=script,
        cwd=directory,
        env=kept | {"PROJECT": str(PROJECT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    pieces = re.split(rf"^{MARK} (\d+)\n", done.stdout, flags=re.MULTILINE)
    happened = list(zip(pieces[::2], pieces[1::2], strict=False))
    for (command, shown), (printed, code) in zip(steps, happened, strict=True):
        assert (code, comparable(printed)) == ("0", comparable(shown)), command
