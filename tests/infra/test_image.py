"""infra/Dockerfile, as far as it can be judged without building it; and its entry point, run."""

import fnmatch
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.infra.conftest import INFRA, compose

PROJECT = INFRA.parent
TEXT = (INFRA / "Dockerfile").read_text("utf-8")


def instructions() -> list[tuple[str, str]]:
    """(name, the rest), with continued lines joined and comments left out."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [(name, rest) for line in joined.splitlines() if line.strip() for name, _, rest in [line.partition(" ")]]


def named(name: str) -> list[str]:
    return [rest for each, rest in instructions() if each == name]


def ignored(path: str) -> bool:
    """By Dockerfile.dockerignore: the last pattern that fits the path, or a directory above it, decides."""
    left_out = False
    for line in (INFRA / "Dockerfile.dockerignore").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            above = ["/".join(path.split("/")[: n + 1]) for n in range(path.count("/") + 1)]
            last = [each.rpartition("/")[2] for each in above] if "**/" in line else above
            if any(fnmatch.fnmatchcase(each, pattern) for each in last):
                left_out = not line.startswith("!")
    return left_out


def test_bases_are_pinned_and_one() -> None:
    bases = {base.split()[0] for base in named("FROM")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", bases.pop())
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert wanted.removeprefix(">=") in TEXT


def test_the_last_user_is_nobody_special() -> None:
    assert instructions()[-4][0] == "USER", "nothing runs at build time after it"
    default = re.search(r"^ARG UID=(\d+)$", TEXT, re.MULTILINE)
    assert named("USER") == ["$UID:$UID"] and default and int(default[1]) >= 10000


def test_nothing_is_fetched_behind_the_back_of_pip_and_apt() -> None:
    assert named("ADD") == []
    assert not re.search(r"\b(curl|wget)\b|https?://", " ".join(named("COPY") + named("RUN")))
    assert all("-c constraints.txt" in run or "--no-deps" in run for run in named("RUN") if "pip install" in run)


def test_the_build_goes_on_without_the_english_model() -> None:
    run = next(run for run in named("RUN") if "SPACY_MODEL" in run)
    script = run.replace("timeout 300 pip", "pip")
    done = subprocess.run(
        ["sh", "-ec", f"pip() {{ return 1; }}; {script}"],
        env={"PATH": os.environ["PATH"], "SPACY_MODEL": "https://nowhere.invalid/x.whl"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "by rules" in done.stdout) == (0, True)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    sources = [
        source
        for rest in named("COPY")
        if "--from=" not in rest
        for source in [word for word in rest.split() if not word.startswith("--")][:-1]
    ]
    assert {"constraints.txt", "pipelines", "flows", "infra"} <= set(sources)
    for source in sources:
        assert (PROJECT / source).exists() and not ignored(source), source
    # what code reads beside the packages
    for path in ("infra/prefect.yaml", "infra/entrypoint.sh", "pipelines/index/sql/functions.sql"):
        assert not ignored(path)


@pytest.mark.parametrize(
    "path",
    ["infra/secrets/snapdex_password", "infra/.env", ".git/config", "data/store/x", ".venv/bin/python", "tests/a.py",
     ".snapdex/postgres", "pipelines/__pycache__/x.pyc", "infra/__pycache__/x.pyc", "params.yaml"],
)  # fmt: skip
def test_what_stays_outside(path: str) -> None:
    assert ignored(path)


def test_the_command_is_the_workers() -> None:
    assert named("CMD")[0].replace('"', "").strip("[]").split(", ") == compose()["services"]["worker"]["command"]
    assert "8080/health" in " ".join(named("HEALTHCHECK"))


def test_the_entry_point_takes_secrets_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "run" / "secrets"
    secret.mkdir(parents=True)
    (secret / "password").write_text("a b'$\"\n", "utf-8")
    script = (INFRA / "entrypoint.sh").read_text("utf-8").replace("/run/secrets", str(secret))
    given = {
        "PATH": os.environ["PATH"],
        "PGPASSWORD_FILE": f"{secret}/password",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca.pem",
    }
    command = ["sh", "-c", script, "entrypoint", "sh", "-c", 'printf "%s|%s" "$PGPASSWORD" "${SSL_CERT:-unset}"']
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    assert done.stdout == "a b'$\"|unset"
    given["OTHER_FILE"] = f"{secret}/missing"
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and done.stdout == "", "a secret that is not there ends it"
