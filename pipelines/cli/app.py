"""The command group: options that all commands share, and where each command lives."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from pipelines import logs
from pipelines.config import Config, load_config
from pipelines.errors import ConfigError
from pipelines.files import Workspace
from pipelines.progress import Progress, Silent

F = TypeVar("F", bound=Callable[..., Any])

COMMANDS = {  # command: module; a module is imported when one of its commands is used
    "init": "workspace",
    "run": "ingest",
    "plan": "ingest",
    "documents": "ingest",
    "chunks": "chunks",
    "quarantine": "ingest",
    "search": "search",
    "ask": "ask",
    "mcp": "mcp",
    "serve": "serve",
    "eval": "evaluate",
    "gate": "evaluate",
    "compare": "compare",
    "golden": "golden",
    "finetune": "finetune",
    "log": "history",
    "usage": "usage",
    "show": "history",
    "diff": "history",
    "publish": "pointer",
    "rollback": "pointer",
    "tag": "pointer",
    "untag": "pointer",
    "pin": "retention",
    "unpin": "retention",
    "forget": "retention",
    "prune": "retention",
    "erase": "erase",
    "restore": "restore",
    "verify": "history",
    "up": "services",
    "down": "services",
    "status": "services",
    "doctor": "database",
    "db": "database",
    "completion": "workspace",
}
NAMES = {"eval": "evaluate"}  # where the name of a command is one that Python has already
EXIT_CODES = (
    "Exit codes: 0 done · 1 a bug · 2 usage or configuration · 3 input · 4 integrity · 5 conflict · 6 not found · "
    "7 gate failed · 75 a service is unavailable, try again · 130 interrupted."
)


@dataclass
class Settings:
    """What the command line said before the work starts."""

    home: Path | None = None
    overrides: list[str] = field(default_factory=list)
    json: bool = False
    quiet: bool = False
    index: str | None = None

    @property
    def workspace(self) -> Workspace:
        """The directory with params.yaml: --home, SNAPDEX_HOME, or the nearest one upwards from here."""
        given = self.home or (Path(os.environ["SNAPDEX_HOME"]) if os.environ.get("SNAPDEX_HOME") else None)
        if given:
            if not (given / "params.yaml").exists():
                raise ConfigError(f"{given} is not a workspace: it has no params.yaml", hint=f"snapdex init {given}")
            return Workspace(given.resolve())
        here = Path.cwd()
        for place in (here, *here.parents):
            if (place / "params.yaml").exists():
                return Workspace(place)
        raise ConfigError(f"no params.yaml in {here} or above", hint="snapdex init DIR, or set SNAPDEX_HOME")

    @property
    def config(self) -> Config:
        return load_config(self.workspace.params, self.overrides, index=self.index)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Bars on stderr for a person who waits; nothing for scripts, with --quiet, and where events go there."""
        if self.quiet or logs.wanted() or not sys.stderr.isatty():
            yield Silent()
            return
        from pipelines.cli.bars import Bars

        bars = Bars()
        try:
            yield bars
        finally:
            bars.close()


def common(function: F) -> F:
    """Add the options that every command has, and pass them as `settings`."""

    def wrapped(
        home: Path | None, overrides: tuple[str, ...], json: bool, quiet: bool, index: str | None, **rest: Any
    ) -> Any:
        return function(Settings(home, list(overrides), json, quiet, index), **rest)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    wrapped.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in reversed(
        (
            click.option("--index", "index", metavar="I", help="The index (default: index.name in params.yaml)."),
            click.option("--json", "json", is_flag=True, help="One JSON value on stdout, nothing else."),
            click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
            click.option(
                "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a parameter."
            ),
            click.option(
                "--home",
                type=click.Path(file_okay=False, path_type=Path),
                metavar="DIR",
                help="The workspace (default: SNAPDEX_HOME, or the nearest params.yaml upwards).",
            ),
        )
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


class Commands(click.Group):
    """Finds commands by name in COMMANDS, so that starting `snapdex search` does not import what `run` needs."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.Abort(
                str(error)
            ) from None  # click itself would print an empty line, and an error has two lines

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"pipelines.cli.{COMMANDS[name]}"), NAMES.get(name, name))
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EXIT_CODES,
)
@click.version_option(package_name="snapdex", message="snapdex %(version)s")
def cli() -> None:
    """Versioned retrieval indexes in Postgres/pgvector.

    \b
    snapdex run                     bring the index up to date with its sources and publish a new version
    snapdex plan                    show what that would do
    snapdex search "how do I ..."   find, with citations
    snapdex ask "how do I ..."      answer, with citations, or say that there is no answer
    snapdex log                     the versions
    snapdex rollback                go back to the version before
    """
