"""A private PostgreSQL on 127.0.0.1 that ends with the process that started it."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg import sql

from lifecycle.errors import SandboxError
from sandbox.binaries import find_binaries
from sandbox.placement import Placement, place
from sandbox.predecessor import wait_for_predecessor
from sandbox.supervise import SupervisedProcess, supervised

SUPERUSER: Final = "supabase_admin"
LOGIN_ROLES: Final = ("postgres", "authenticator")
ROLES_SQL: Final = Path(__file__).parent / "sql" / "roles.sql"
HOST: Final = "127.0.0.1"
START_SECONDS: Final = 120.0
SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "max_wal_size": "4GB",
    "maintenance_work_mem": "256MB",
    "jit": "off",
}
NOT_DURABLE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Server:
    """A PostgreSQL server in `folder`; use it as a context manager, or call start() and stop().

    The superuser is `supabase_admin`; `postgres` is an ordinary owner as on Supabase. Passwords are random per
    folder, connections are TCP on 127.0.0.1 only. `durable=False` trades safety for speed: after a crash of the
    machine the data may be broken, and data that had to be placed outside `folder` (see sandbox.placement) is
    deleted by stop(). Starting again in a folder that was used before reopens its data. `seed` is another server's
    folder, stopped: a new folder starts as a copy of its data and password instead of an empty server.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bin_dir: Path | None = None,
        port: int | None = None,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
        seed: Path | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.durable = durable
        self.log = self.folder / "server.log"
        self._binaries = find_binaries(bin_dir)
        self._wanted_port = port
        self._seed = seed
        self._port: int | None = None
        self._settings = {**SETTINGS, **({} if durable else NOT_DURABLE), **(settings or {})}
        self._password = ""
        self._placement: Placement | None = None
        self._process: SupervisedProcess | None = None

    @property
    def version(self) -> int:
        """Major version, such as 15."""
        return self._binaries.version

    @property
    def psql(self) -> str:
        """The psql that came with this PostgreSQL, by its whole path; where it brought none, the one on PATH."""
        beside = self._binaries.folder / "psql"
        return str(beside) if beside.exists() else shutil.which("psql") or "psql"

    @property
    def port(self) -> int:
        """The TCP port; SandboxError before start()."""
        if self._port is None:
            raise SandboxError(f"the server in {self.folder} is not running; call start() first")
        return self._port

    @property
    def pid(self) -> int:
        """Process id of the postmaster; SandboxError before start()."""
        if self._process is None:
            raise SandboxError(f"the server in {self.folder} is not running; call start() first")
        return self._process.pid

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder; SandboxError before start()."""
        if self._placement is None:
            raise SandboxError(f"the server in {self.folder} was never started; call start() first")
        return self._placement.data

    def url(self, database: str = "postgres", user: str = "postgres", driver: str | None = None) -> str:
        """postgresql://user:password@127.0.0.1:port/database, with `+driver` for SQLAlchemy if named.

        `user` is one of supabase_admin, postgres, authenticator.
        """
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{user}:{self._password}@{HOST}:{self.port}/{database}"

    def start(self) -> Self:
        """Start the server and wait until it answers; a new folder is initialised first.

        Raises SandboxError, with the end of the server's log, when it does not come up.
        """
        placement = self._placement = place(self.folder, self._binaries)
        self._password = self._stored_password()
        wait_for_predecessor(placement.data)
        if not (placement.data / "PG_VERSION").exists():
            if self._seed:
                self._copy(placement, self._seed)
            else:
                self._initialise(placement)
        self._check_version(placement.data)
        for remaining in (2, 1, 0):
            self._port = self._wanted_port or _free_port()
            try:
                self._launch(placement)
                break
            except _PortTakenError:
                if self._wanted_port or not remaining:
                    raise
        try:
            self._ensure_roles()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Fast shutdown; safe to repeat."""
        process, self._process, self._port = self._process, None, None
        if process is not None:
            process.stop()
        if self._placement is not None and not self.durable:
            self._placement.remove_place()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _stored_password(self) -> str:
        path = self.folder / "password"
        if self._seed and not path.exists():
            shutil.copy(self._seed / path.name, path)
        if not path.exists():
            partial = path.with_suffix(".new")
            partial.unlink(missing_ok=True)
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24))
            partial.rename(path)
        return path.read_text().strip()

    def _environment(self) -> dict[str, str]:
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("PG")}
        return inherited | {"LC_ALL": "C", "TZ": "UTC"}

    def _copy(self, placement: Placement, seed: Path) -> None:
        """The data of `seed`, beside the final name as in _initialise()."""
        partial = placement.data.with_name("data.new")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(seed / "data", partial)
        for path in (partial, *partial.rglob("*")):
            placement.give_to_user(path)
        partial.rename(placement.data)

    def _initialise(self, placement: Placement) -> None:
        """initdb beside the final name: a half-made data folder is never mistaken for a whole one."""
        partial = placement.data.with_name("data.new")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        password = placement.data.with_name("data.password")
        password.unlink(missing_ok=True)
        with open(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._password + "\n")
        for path in (partial, password):
            placement.give_to_user(path)
        command = [
            *(str(placement.bin_dir / "initdb"), "--pgdata", str(partial), "--username", SUPERUSER),
            *("--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"),
            *(() if self.durable else ("--no-sync",)),
        ]
        process = supervised(
            command, env=self._environment(), cwd=Path("/"), log=self.log, user=placement.user, grace=5.0
        )
        try:
            code = process.supervisor.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            code = process.stop()
        finally:
            password.unlink()
        if code:
            shutil.rmtree(partial, ignore_errors=True)
            raise SandboxError(f"initdb failed in {partial}:\n{_tail(self.log)}")
        partial.rename(placement.data)

    def _check_version(self, data: Path) -> None:
        found = (data / "PG_VERSION").read_text().strip()
        if found != str(self.version):
            raise SandboxError(
                f"{data} was made by PostgreSQL {found} and {self._binaries.folder} is {self.version}; "
                f"name the binaries of version {found}, or remove {self.folder} to start afresh"
            )

    def _launch(self, placement: Placement) -> None:
        options = {**self._settings, "port": str(self._port)}
        start_of_log = self.log.stat().st_size if self.log.exists() else 0
        self._process = supervised(
            [
                *(str(placement.bin_dir / "postgres"), "-D", str(placement.data)),
                *(part for name, text in options.items() for part in ("-c", f"{name}={text}")),
            ],
            env=self._environment(),
            cwd=Path("/"),
            log=self.log,
            stop_signal=signal.SIGINT,  # fast shutdown; SIGTERM would wait for every client to leave
            user=placement.user,
            grace=60.0,
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                psycopg.connect(self.url(user=SUPERUSER), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        self._process.stop()
        self._process = None
        end_of_log = _tail(self.log, start_of_log)
        kind = _PortTakenError if "Address already in use" in end_of_log else SandboxError
        raise kind(
            f"PostgreSQL {self.version} did not start in {placement.data} on port {self._port}; "
            f"the end of {self.log}:\n{end_of_log}"
        )

    def _ensure_roles(self) -> None:
        with psycopg.connect(self.url(user=SUPERUSER), autocommit=True) as conn:
            if conn.execute("select 1 from pg_roles where rolname = 'authenticator'").fetchone():
                return
            with conn.transaction():
                conn.execute(ROLES_SQL.read_bytes())
                for role in LOGIN_ROLES:
                    conn.execute(
                        sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(self._password))
                    )


class _PortTakenError(SandboxError):
    """Another program took the free port first. Name another port."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _tail(log: Path, start: int = 0) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return "\n".join(file.read().decode(errors="replace").splitlines()[-15:])
