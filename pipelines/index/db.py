"""Connections to Postgres, and Postgres errors as ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from pipelines.errors import ConfigError, ConflictError, InputError, NotFoundError, ServiceUnavailable, SnapdexError
from pipelines.files import Workspace
from pipelines.index.server import EmbeddedServer

Connection = psycopg.Connection[TupleRow]

CONNECT_SECONDS = 10
GONE_SECONDS = 60  # after which the other side counts as gone, here and at the server: its locks are given back then
KEEPALIVES_IDLE, KEEPALIVES_INTERVAL, KEEPALIVES_COUNT = 30, 10, 3
_TIMEZONE = "-c timezone=UTC"
# No work here pauses so long inside a transaction: what is read or computed meanwhile is a batch, seconds at most.
_SERVER_NOTICES = (
    f"-c tcp_keepalives_idle={KEEPALIVES_IDLE} -c tcp_keepalives_interval={KEEPALIVES_INTERVAL}"
    f" -c tcp_keepalives_count={KEEPALIVES_COUNT} -c tcp_user_timeout={GONE_SECONDS}s"
    f" -c idle_in_transaction_session_timeout={GONE_SECONDS}s"
)
MINIMUM_POSTGRES = 150000
MINIMUM_PGVECTOR = (0, 8, 4)  # earlier ones lose rows in iterative scans or are open to CVE-2026 reports


def database_url(workspace: Workspace) -> str:
    """Where the database is: `SNAPDEX_DATABASE_URL`, or the embedded server, which is started if need be."""
    return os.environ.get("SNAPDEX_DATABASE_URL") or EmbeddedServer(workspace.state).ensure_running()


def connect(url: str) -> Connection:
    """An autocommit connection; use `connection.transaction()` for more than one statement.

    Statements are never prepared: a generic plan cannot know how selective a vector search is (measured: recall fell
    from 1.00 to 0.05). A client that vanishes inside a transaction loses its locks after `GONE_SECONDS`; what `options`
    in the URL say comes last and wins.

    Raises `ServiceUnavailable` when the server does not answer, `ConfigError` when it refuses.
    """
    try:
        try:
            return _open(url, f"{_TIMEZONE} {_SERVER_NOTICES}")
        except psycopg.OperationalError as error:
            if "unsupported startup parameter" not in str(error):
                raise
            return _open(url, _TIMEZONE)  # of a pooler, which has time limits of its own for its connections
    except psycopg.ProgrammingError:
        raise _not_a_url() from None
    except psycopg.OperationalError as error:
        raise _connection_error(url, error) from None


def connect_to_read(url: str, *, timeout_seconds: float) -> Connection:
    """As `connect`, for somebody who may do no more than readers may, and whose statements end after so long.

    Where the user of the URL may act as `snapdex_reader`, the session does. Elsewhere it writes nothing at all, and its
    searches are not logged.
    """
    connection = connect(url)
    right = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    with translated_errors():
        connection.execute("SELECT set_config('statement_timeout', %s, false)", [f"{timeout_seconds * 1000:.0f}"])
        become = (
            "SELECT set_config('role', rolname, false) FROM pg_roles"
            " WHERE rolname = 'snapdex_reader' AND pg_has_role(oid, %s)"
        )
        if connection.execute(become, [right]).fetchone() is None:
            connection.execute("SET default_transaction_read_only = on")
    return connection


def _open(url: str, options: str) -> Connection:
    return psycopg.connect(
        url,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=CONNECT_SECONDS,
        application_name="snapdex",
        options=f"{options} {conninfo_to_dict(url).get('options', '')}",
        keepalives_idle=KEEPALIVES_IDLE,
        keepalives_interval=KEEPALIVES_INTERVAL,
        keepalives_count=KEEPALIVES_COUNT,
        tcp_user_timeout=GONE_SECONDS * 1000,
    )


def without_password(url: str) -> tuple[str, str | None]:
    """The connection string without its password, which may stand on a command line, and the password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise _not_a_url() from None
    password = parts.pop("password", None)
    return make_conninfo("", **parts), None if password is None else str(password)


def _not_a_url() -> ConfigError:
    return ConfigError(
        "SNAPDEX_DATABASE_URL is not a connection URL", hint="example: postgresql://user@host:5432/database"
    )


def _connection_error(url: str, error: psycopg.OperationalError) -> SnapdexError:
    """What went wrong, without the password: libpq's message never has it, but the URL may."""
    where = conninfo_to_dict(url)
    place = f"{where.get('host', 'localhost')}:{where.get('port', 5432)}/{where.get('dbname', '')}"
    reason = " ".join(str(error).split())
    if "authentication failed" in reason or "no password supplied" in reason or "does not exist" in reason:
        return ConfigError(
            f"Postgres at {place} refuses the connection: {_tail(reason)}", hint="check the URL, user and password"
        )
    return ServiceUnavailable(
        f"Postgres at {place} does not answer: {_tail(reason)}",
        hint="start it, or check SNAPDEX_DATABASE_URL; `snapdex doctor` looks closer",
    )


def _tail(reason: str) -> str:
    return reason.rpartition("failed: ")[2]


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what Postgres says inside the block into our errors; anything unknown stays as it is, a bug to report."""
    try:
        yield
    except (
        errors.DeadlockDetected,
        errors.SerializationFailure,
        errors.LockNotAvailable,
        errors.QueryCanceled,
    ) as error:
        raise ConflictError(f"the database was busy: {_primary(error)}", hint="run again") from error
    except errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"the database user may not do this: {_primary(error)}", hint="see docs/operations.md on roles"
        ) from error
    except (errors.DiskFull, errors.OutOfMemory, errors.TooManyConnections, errors.ConfigurationLimitExceeded) as error:
        raise ServiceUnavailable(
            f"Postgres ran out of resources: {_primary(error)}", hint="free some and run again"
        ) from error
    except (errors.InvalidSchemaName, errors.UndefinedTable) as error:
        if "snapdex" not in _primary(error):
            raise
        raise NotFoundError("there is no index in this database yet", hint="make one with: snapdex run") from error
    except (errors.ProgramLimitExceeded, errors.StatementTooComplex, errors.TooManyColumns) as error:
        raise InputError(
            f"this is too large for Postgres: {_primary(error)}", hint="make the query, the name or the vector smaller"
        ) from error
    except (psycopg.OperationalError, errors.IdleInTransactionSessionTimeout) as error:
        raise ServiceUnavailable(
            f"the connection to Postgres broke: {_primary(error)}", hint="run again: finished work is kept"
        ) from error
    except psycopg.Error as error:
        if error.sqlstate == "SX002":
            raise InputError(_primary(error), hint="see `snapdex search --help`") from error
        if error.sqlstate == "SX005":
            raise ConflictError(_primary(error), hint="look at `snapdex log`, then run again") from error
        if error.sqlstate == "SX006":
            raise NotFoundError(_primary(error), hint="`snapdex log` lists what there is") from error
        raise


def _primary(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())
