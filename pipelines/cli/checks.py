"""What doctor looks at. Each check is a function that gives a line, and a hint where it fails."""

import importlib.metadata
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipelines.cli.app import Settings
from pipelines.errors import SnapdexError

FREE_BYTES = 2 * 2**30
FLOORS = {  # below these, known security reports are open (docs/security.md)
    "unstructured": "0.26.2",
    "pdfminer.six": "20251230",
    "lxml": "6.1.0",
    "sentence-transformers": "6.0",
    "torch": "2.10",
    "prefect": "3.6.25",
}


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str
    hint: str = ""


def all_checks(settings: Settings) -> Iterator[Check]:
    """Each check once; one that raises is a failed check, not the end."""
    checks: dict[str, Callable[[Settings], str]] = {
        "python": _python,
        "packages": _packages,
        "workspace": _workspace,
        "disk": _disk,
        "database": _database,
        "roles": _roles,
        "lexical": _lexical,
        "model": _model,
    }
    for name, check in checks.items():
        try:
            yield Check(name, True, check(settings))
        except SnapdexError as error:
            yield Check(name, False, str(error), error.hint)


def _python(settings: Settings) -> str:
    return sys.version.split()[0]


def _packages(settings: Settings) -> str:
    from pipelines.errors import ConfigError

    def parts(version: str) -> list[int]:
        return [
            int(digits) for part in version.split("+")[0].split(".") if (digits := "".join(filter(str.isdigit, part)))
        ]

    for name, floor in FLOORS.items():
        found = importlib.metadata.version(name)
        if parts(found) < parts(floor):
            raise ConfigError(f"{name} {found} is older than {floor}", hint=f"pip install '{name}>={floor}'")
    return f"{len(FLOORS)} packages at or above their security floors"


def _workspace(settings: Settings) -> str:
    config = settings.config
    return f"{settings.workspace.root}, index {config.index.name}"


def _disk(settings: Settings) -> str:
    from pipelines.errors import ConfigError

    free = shutil.disk_usage(settings.workspace.root).free
    if free < FREE_BYTES:
        raise ConfigError(f"{free / 2**30:.1f} GB free", hint="the database and the stores need room: free some")
    return f"{free / 2**30:.0f} GB free"


def _database(settings: Settings) -> str:
    from pipelines.index import connect, database_url, migrate, translated_errors

    with connect(database_url(settings.workspace)) as connection, translated_errors():
        migrate(connection)
        row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
        version = connection.info.server_version
        names = [str(name) for (name,) in connection.execute("SELECT name FROM snapdex.index ORDER BY 1").fetchall()]
    assert row is not None
    return (
        f"Postgres {version // 10000}.{version % 10000}, pgvector {row[0]}, indexes: {', '.join(names) or 'none yet'}"
    )


def _roles(settings: Settings) -> str:
    from pipelines.errors import ConfigError
    from pipelines.index import connect, database_url, translated_errors
    from pipelines.index.migrate import ROLES

    with connect(database_url(settings.workspace)) as connection, translated_errors():
        found = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
    missing = [role for role in ROLES if role not in found]
    if missing:
        raise ConfigError(
            f"no role {', '.join(missing)}", hint="let a database administrator run infra/postgres/roles.sql"
        )
    return ", ".join(ROLES)


def _lexical(settings: Settings) -> str:
    from pipelines.index import connect, database_url, translated_errors
    from pipelines.index.lexical import check_words

    with connect(database_url(settings.workspace)) as connection, translated_errors():
        return check_words(connection)


def _model(settings: Settings) -> str:
    from pipelines.models import resolve_model

    model = resolve_model(settings.config.embed, settings.workspace)
    return f"{model.name}, {model.dimension} dimensions, reads {model.max_tokens} tokens"
