"""The SQL and the settings of infra/postgres, on a real server; and the queries of the dashboard, on a real index."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipelines.config import RetentionConfig
from pipelines.errors import ConfigError
from pipelines.index import open_index
from pipelines.index.catalog import get_index
from pipelines.index.db import Connection, connect, connect_to_read
from pipelines.index.quarantine import record
from pipelines.index.retention import forget
from pipelines.index.server import _as_server_user, _give_to_server_user, binaries
from pipelines.model import Quarantined, Reason
from tests.index.state import State
from tests.infra.conftest import INFRA, Installed, init_scripts

DASHBOARD = json.loads((INFRA / "grafana" / "dashboard.json").read_text("utf-8"))
SHOWN_IN_EVERY_PANEL = {"$__timeFilter(": "now() - interval '30 days' < (", "'$index'": "'handbook'"}


def login(installed: Installed, name: str, database: str) -> psycopg.Connection[Any]:
    user = f"snapdex_{name}" if name in ("monitor", "serve") else name
    return psycopg.connect(installed.url(user, database), password=installed.password(name), autocommit=True)


@pytest.fixture(scope="module")
def state(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """An index made by the login that compose gives the worker, with its password in PGPASSWORD: of three versions the
    first is forgotten, the second active again; one document is in quarantine."""
    with pytest.MonkeyPatch.context() as patch:
        url = installed.url("snapdex", "snapdex")
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        patch.setenv("PGPASSWORD", installed.password("snapdex"))
        state = State.make(tmp_path_factory.mktemp("grafana") / "workspace", url, "gate.golden=golden.jsonl")
        golden = {"question": "where is the other text?", "documents": ["b.md"]}
        (state.root / "golden.jsonl").write_text(json.dumps(golden) + "\n", "utf-8")
        for word in ("text", "words", "lines"):
            state.write({"a.md": "# A\n\nSome text.\n", "b.md": f"# B\n\nOther {word}.\n"}).run()
        state.rollback()
        with state.connect() as connection:
            index = get_index(connection, state.name)
            forget(connection, index, RetentionConfig(keep_last=1, keep_daily=0))
            record(connection, index, [Quarantined("broken.pdf", "1" * 64, Reason.CORRUPT, "cut off")])
        yield state


def test_every_script_is_mounted() -> None:
    assert {path.name for path in init_scripts()} == {path.name for path in (INFRA / "postgres").glob("*.sql")}
    assert [path.name for path in init_scripts()] == ["roles.sql", "databases.sql", "prefect.sql", "metrics.sql"]


def test_each_login_has_its_database_and_no_other(installed: Installed) -> None:
    for name in ("snapdex", "prefect", "mlflow"):
        with login(installed, name, name) as connection:
            connection.execute("CREATE SCHEMA mine; DROP SCHEMA mine; CREATE TABLE t (x int); DROP TABLE t")
        for other in {"snapdex", "prefect", "mlflow"} - {name}:
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                login(installed, name, other)
    with connect(installed.superuser_url) as connection:
        powerful = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND (rolsuper OR rolcreaterole OR rolcreatedb"
            " OR rolreplication OR rolbypassrls)"
        ).fetchall()
        encodings = connection.execute("SELECT DISTINCT pg_encoding_to_char(encoding) FROM pg_database").fetchall()
    assert (powerful, encodings) == ([("owner",)], [("UTF8",)])


def test_a_wrong_password_is_refused(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "guess")
    with pytest.raises(ConfigError, match="authentication failed"):
        connect(installed.url("snapdex", "snapdex"))


def test_the_owner_builds_searches_and_grants(state: State, installed: Installed) -> None:
    assert state.search("other words").hits[0].document == "b.md"
    assert state.problems() == []
    with connect(installed.superuser_url.replace("/postgres", "/snapdex")) as connection:
        granted = connection.execute(
            "SELECT has_function_privilege('snapdex_reader', 'snapdex.search_lexical(text,text,int,jsonb,int)',"
            " 'EXECUTE'), pg_has_role('snapdex_publisher', 'snapdex_reader', 'USAGE'),"
            " (SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector')"
        ).fetchone()
    assert granted == (True, True, "public")


def test_the_monitor_sees_no_text_and_changes_nothing(state: State, installed: Installed) -> None:
    with login(installed, "monitor", "snapdex") as connection:
        for statement in (
            "SELECT * FROM snapdex.versions",
            "SELECT * FROM snapdex.active_chunks",
            "SELECT * FROM snapdex_1.quarantine",
            "SELECT * FROM snapdex.operation",
            "CREATE TABLE snapdex_metrics.t (x int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_the_service_reads_with_a_login_of_its_own(
    state: State, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", installed.password("serve"))

    def connecting() -> Connection:
        return connect_to_read(installed.url("snapdex_serve", "snapdex"), timeout_seconds=30)

    with open_index(workspace=state.root, config=state.config, log=True, connect=connecting) as reader:
        assert reader.search("other words").hits[0].document == "b.md"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.connection.execute("SELECT * FROM snapdex.retrieval_log")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.connection.execute("CREATE TABLE snapdex.mine (x int)")


def test_metrics_before_the_first_run_are_empty(installed: Installed) -> None:
    with connect(installed.superuser_url) as connection:
        connection.execute("CREATE DATABASE fresh TEMPLATE template0")
    source = (INFRA / "postgres" / "metrics.sql").read_text("utf-8")
    statements = "\n".join(line for line in source.splitlines() if not line.startswith("\\"))
    with connect(installed.superuser_url.replace("/postgres", "/fresh")) as connection:
        connection.execute("GRANT CREATE ON DATABASE fresh TO snapdex")
        for _ in range(2):  # it may be run again
            connection.execute(statements.encode())
        functions = connection.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'snapdex_metrics'::regnamespace"
        ).fetchall()
        assert len(functions) == 5
        for (name,) in functions:
            assert connection.execute(f"SELECT * FROM snapdex_metrics.{name}()".encode()).fetchall() == []


def test_a_dump_comes_back_whole(state: State, installed: Installed, tmp_path: Path) -> None:
    """The backup of docs/deployment.md: pg_dump, and its file into an empty database of the same owner."""
    dump = tmp_path / "snapdex.sql"
    environment = {"PATH": os.environ["PATH"]}
    source = installed.superuser_url.replace("/postgres", "/snapdex")
    subprocess.run([binaries() / "pg_dump", "-d", source, "-f", dump], env=environment, check=True)
    with connect(installed.superuser_url) as connection:
        connection.execute("CREATE DATABASE again OWNER snapdex TEMPLATE template0")
    again = installed.superuser_url.replace("/postgres", "/again")
    restore = [binaries() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", again, "-f", dump]
    done = subprocess.run(restore, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    restored = State(state.root, installed.url("snapdex", "again"), state.config)
    assert restored.problems() == restored.problems("v3") == []
    assert restored.search("other words").hits == state.search("other words").hits


# -- the dashboard -----------------------------------------------------------------------------------------------------


def queries() -> list[tuple[str, str]]:
    panels = [(panel["title"], target["rawSql"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [(each["name"], each["query"]) for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    return panels + variables


@pytest.mark.parametrize(("title", "query"), queries(), ids=[title for title, _ in queries()])
def test_a_panel_shows_something(state: State, installed: Installed, title: str, query: str) -> None:
    for macro, value in SHOWN_IN_EVERY_PANEL.items():
        query = query.replace(macro, value)
    assert "$" not in query
    with login(installed, "monitor", "snapdex") as connection:
        found = connection.execute(query.encode()).fetchall()
    assert found, title


def test_the_numbers_are_those_of_the_index(state: State, installed: Installed) -> None:
    with login(installed, "monitor", "snapdex") as connection:
        row = connection.execute(
            "SELECT active_version, newest_version, rolled_back, documents, quarantined FROM snapdex_metrics.indexes()"
        ).fetchone()
        moves = connection.execute("SELECT kind, version FROM snapdex_metrics.moves() ORDER BY at").fetchall()
        failed = connection.execute("SELECT document, attempts FROM snapdex_metrics.quarantine()").fetchall()
    assert row == (2, 3, True, 2, 1)
    assert moves == [("publish", 1), ("publish", 2), ("publish", 3), ("rollback", 2)]
    assert failed == [("broken.pdf", 1)]


def test_the_dashboard_names_only_what_it_defines() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    sources = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    provisioned = (INFRA / "grafana" / "datasource.yaml").read_text("utf-8")
    assert sources == {"snapdex"} and "uid: snapdex\n" in provisioned
    assert re.search(r"password: \$\w+", provisioned), "the password comes from the environment"


# -- settings ----------------------------------------------------------------------------------------------------------


def test_the_server_takes_the_settings(tmp_path: Path) -> None:
    """postgres reads the whole file, names what it does not know and fails; the rest is not started."""
    path = tmp_path / "postgresql.conf"
    path.write_text((INFRA / "postgres" / "postgresql.conf").read_text("utf-8"), "utf-8")
    data = tmp_path / "data"
    data.mkdir()
    for each in (path, data):
        _give_to_server_user(each)
    program = binaries() / "postgres"
    command = [*_as_server_user(program, data), program, "-D", data, "-c", f"config_file={path}", "-C"]

    def setting(name: str) -> tuple[int, str]:
        done = subprocess.run([*command, name], cwd="/", capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip() or done.stderr

    assert setting("maintenance_work_mem") == (0, str(1024 * 1024))
    path.write_text(path.read_text("utf-8") + "mantenance_work_mem = 1GB\n", "utf-8")
    code, said = setting("maintenance_work_mem")
    assert code != 0 and "mantenance_work_mem" in said
