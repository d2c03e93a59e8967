"""init and completion."""

import configparser
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import click

from pipelines.cli.output import emit_json
from pipelines.errors import ConfigError

MADE = {
    "params.yaml": "params.yaml",
    "dvc.yaml": "dvc.yaml",
    "golden.jsonl": "golden.jsonl",
    "train.jsonl": "train.jsonl",
    "gitignore": ".gitignore",
    "dvcignore": ".dvcignore",
}


@click.command(short_help="Make a new workspace.")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "json", is_flag=True, help="One JSON value on stdout, nothing else.")
def init(directory: Path, json: bool) -> None:
    """Make DIR a workspace: params.yaml, dvc.yaml, .gitignore and an initialised DVC repository.

    \b
    snapdex init handbook && cd handbook
    snapdex run ~/documents
    """
    if (directory / "params.yaml").exists():
        raise ConfigError(
            f"{directory} is a workspace already", hint="change its params.yaml, or choose another directory"
        )
    directory.mkdir(parents=True, exist_ok=True)
    template = files("pipelines.cli") / "template"
    for source, name in MADE.items():
        if not (directory / name).exists():
            (directory / name).write_text((template / source).read_text("utf-8"), "utf-8")
    _init_dvc(directory)
    if json:
        emit_json({"workspace": str(directory.resolve())})
    else:
        click.echo(f"{directory} is a workspace. Next: cd {directory}, then snapdex run SOURCE")


def _init_dvc(directory: Path) -> None:
    if (directory / ".dvc").exists():
        return
    in_git = (
        subprocess.run(["git", "rev-parse", "--git-dir"], cwd=directory, capture_output=True, check=False).returncode
        == 0
    )
    command = [sys.executable, "-m", "dvc", "init", "-q", "--subdir" if in_git else "--no-scm"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigError(
            f"dvc init failed: {done.stderr.strip().splitlines()[-1:]}", hint="is DVC installed? pip show dvc"
        )
    settings = configparser.ConfigParser()
    settings.read(directory / ".dvc" / "config", "utf-8")
    settings.read_dict({"core": {"analytics": "false", "check_update": "false", "autostage": "false"}})
    with (directory / ".dvc" / "config").open("w", encoding="utf-8") as file:
        settings.write(file)


@click.command(short_help="Shell completion for bash, zsh or fish.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    eval "$(snapdex completion bash)"
    """
    from click.shell_completion import get_completion_class

    from pipelines.cli.app import cli

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "snapdex", "_SNAPDEX_COMPLETE").source())
