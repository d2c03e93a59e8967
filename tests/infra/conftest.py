"""A Postgres 18 that was set up as infra/compose.yaml sets up its own: the same files, in the same order, by psql."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import yaml

from pipelines.index.db import connect
from pipelines.index.server import binaries
from tests.index import tcp

INFRA = Path(__file__).resolve().parents[2] / "infra"
PASSWORDS = ("snapdex", "prefect", "mlflow", "monitor", "serve")


def compose() -> dict[str, Any]:
    return yaml.safe_load((INFRA / "compose.yaml").read_text("utf-8"))


@dataclass(frozen=True)
class Installed:
    """The server, and where its passwords are."""

    superuser_url: str
    secrets: Path

    def url(self, user: str, database: str) -> str:
        """As compose has it: no password in the URL."""
        server = urlsplit(self.superuser_url)
        return urlunsplit(server._replace(netloc=f"{user}@127.0.0.1:{server.port}", path=f"/{database}"))

    def password(self, name: str) -> str:
        return (self.secrets / f"{name}_password").read_text("utf-8").strip()

    def psql(self, script: Path) -> None:
        server = urlsplit(self.superuser_url)
        done = subprocess.run(
            [binaries() / "psql", "-X", "-q", "-d", self.superuser_url, "-f", script],
            env={"PATH": os.environ["PATH"], "SECRETS": str(self.secrets), "PGPASSWORD": str(server.password)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), script

    def lacks(self, extension: str) -> bool:
        with connect(self.superuser_url) as connection:
            found = connection.execute("SELECT FROM pg_available_extensions WHERE name = %s", [extension]).fetchone()
        return found is None


def init_scripts() -> list[Path]:
    """What the image runs on an empty volume, in its order: by the name in the container."""
    mounts = [volume.split(":") for volume in compose()["services"]["postgres"]["volumes"]]
    named = {target: source for source, target, *_ in mounts if target.startswith("/docker-entrypoint-initdb.d/")}
    return [INFRA / named[target] for target in sorted(named)]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    directory = tmp_path_factory.mktemp("infra")
    secrets = directory / "secrets"
    secrets.mkdir()
    for name in PASSWORDS:  # what a shell or a URL could trip over
        (secrets / f"{name}_password").write_text(f"{name}'s $ecret%20\"\\/@:?\n", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tcp, "PROGRAMS", binaries(18))
        with tcp.tcp_server(directory / "server") as url:
            server = Installed(url, secrets)
            for script in init_scripts():
                if script.name == "prefect.sql" and server.lacks("pg_trgm"):
                    continue  # the packaged Postgres has no contrib modules; docs/deployment.md says where this was run
                server.psql(script)
            yield server
