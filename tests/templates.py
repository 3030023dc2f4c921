"""Data folders of PostgreSQL with template databases in them: built once, copied by every worker.

Each worker has servers of its own, because tests change roles, end sessions and leave transactions open, which a whole
server notices. What the servers start from is built once for all workers and kept in .pytest_cache: the plain
databases for some hours of a day (their rows reach back from now), the migrated ones upon them as long as nothing
changes that they are made of.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
import shutil
import tempfile
import warnings
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from lifecycle.migrating.migrate import upgrade
from sandbox.application import apply_december, clone_database, create_application_database
from sandbox.generate import generate
from sandbox.server import LOGIN_ROLES, NOT_DURABLE, SUPERUSER, Server
from tests.declared import APPLICATION
from tests.partitioned import partition

ROOT: Final = Path(__file__).parents[1]
CACHE: Final = ROOT / ".pytest_cache" / "clusters"
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a fresh folder with a random name is made in it
# Two workers have been seen to use 0.7 GB.
MEMORY_NEEDED: Final = 2 * 2**30
# Log files of transactions that could pile up to 4 GB have no place in memory, nor in a copy.
SETTINGS: Final = {"max_wal_size": "256MB", "min_wal_size": "32MB", "max_prepared_transactions": "10"}
# The last day of the sample rows is dense enough for views that read 24 hours.
OLDEST: Final = timedelta(hours=3)


class Template(NamedTuple):
    """What stands in a template database: sample rows, default grants to the API, our objects, December's schema;
    or, without sample rows, converted event tables with a few events in each month."""

    rows: bool
    auto_grant: bool
    migrated: bool
    december: bool = False
    partitioned: bool = False

    @property
    def name(self) -> str:
        """The template database's name."""
        words = ("rows" if self.rows else "empty", "auto" if self.auto_grant else "explicit")
        flags = (("december", self.december), ("migrated", self.migrated), ("partitioned", self.partitioned))
        return "_".join(("template", *words, *(word for word, on in flags if on)))

    @property
    def base(self) -> "Template | None":
        """What it is made from; None for the application as it was created."""
        if self.partitioned:
            return self._replace(partitioned=False)
        if self.migrated:
            return self._replace(migrated=False)
        if self.december:
            return self._replace(december=False)
        return None


def build(server: Server, template: Template, now: datetime) -> None:
    """Make the template database; that of its base must be there."""
    if template.base is None:
        url = create_application_database(server, template.name, auto_grant=template.auto_grant)
        if template.rows:
            generate(url, "small", now=now, progress=lambda _table, _rows: None)
    else:
        url = clone_database(server, template.base.name, template.name)
        if template.partitioned:
            partition(url, now)
        elif template.migrated:
            upgrade(url, APPLICATION)
        else:
            apply_december(url)
    close_to_sessions(server, template.name)


def close_to_sessions(server: Server, database: str) -> None:
    """A template with a session in it cannot be copied."""
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute(sql.SQL("alter database {} allow_connections false").format(sql.Identifier(database)))
        conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database,))


@dataclass(frozen=True)
class _Layer:
    """Templates of one data folder, and the files that they are made of; the next layer builds upon a copy."""

    name: str
    templates: tuple[Template, ...]
    sources: tuple[str, ...]


PLAIN: Final = _Layer(
    "plain",
    (Template(False, True, False), Template(True, True, False), Template(False, False, False)),
    ("sandbox/**/*.py", "sandbox/**/*.sql", "tests/templates.py"),
)
MIGRATED: Final = _Layer(
    "migrated",
    (
        Template(False, True, True),
        Template(True, True, True),
        Template(False, False, True),
        Template(False, True, True, partitioned=True),
    ),
    (
        "lifecycle/**/*.py",
        "lifecycle/**/*.sql",
        "migrations/**/*.py",
        "migrations/**/*.sql",
        "application/**/*",
        "tests/declared.py",
        "tests/partitioned.py",
    ),
)


@contextmanager
def running_server(version: str, bin_dir: Path, *, migrated: bool) -> Iterator[Server]:
    """A server that starts from the kept data folder, with the migrated templates in it or without.

    For one process alone only the plain ones are built ahead: what else it needs and finds missing, it builds itself.
    """
    with tempfile.TemporaryDirectory(prefix="lifecycle-tests-", dir=_place_in_memory()) as folder:
        CACHE.mkdir(parents=True, exist_ok=True)
        # Held while it is copied, too: nobody replaces it meanwhile.
        with (CACHE / f"{version}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            seed = _kept(version, bin_dir, migrated=migrated)
            server = Server(_opened(folder), bin_dir=bin_dir, settings=SETTINGS, seed=seed).start()
        try:
            yield server
        finally:
            server.stop()


def _place_in_memory() -> Path | None:
    """Where files cost no disk, if there is room for every worker's servers.

    Cloning a database makes hundreds of files, and dropping it deletes them: some file systems need ten times the
    time of the copy to find numbers for them that were not deleted a moment ago.
    """
    enough = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED
    return MEMORY if enough else None


def _opened(folder: str) -> Path:
    """The folder, open to the account that a server of root's runs as; closed, its data would lie in /var/tmp."""
    path = Path(folder)
    path.chmod(0o755)
    return path


def _kept(version: str, bin_dir: Path, *, migrated: bool) -> Path:
    """The folder of the last layer, built anew where it is not what its sources would make.

    Unless `migrated` templates are asked for, they are taken only where they are there.
    """
    below: Path | None = None
    for layer in (PLAIN, MIGRATED):
        folder = CACHE / f"{version}-{layer.name}"
        key = _digest(layer.sources, str(bin_dir), _made_at(below) if below else "")
        if not _current(folder, key, ages=below is None):
            if below and not migrated:
                return below
            try:
                _make(folder, layer, below, bin_dir, key)
            except Exception as error:
                if below is None:
                    raise
                # The tests that need these templates say it again, with the whole error.
                warnings.warn(f"migrated templates cannot be built ahead: {type(error).__name__}", stacklevel=2)
                return below
        below = folder
    if below is None:
        raise ValueError("no layer to build")
    return below


def _digest(globs: Sequence[str], *more: str) -> str:
    digest = hashlib.sha256("\0".join(more).encode())
    for pattern in globs:
        for path in sorted(path for path in ROOT.glob(pattern) if path.is_file()):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _made_at(folder: Path) -> str:
    return (folder / "made_at").read_text()


def _current(folder: Path, key: str, *, ages: bool) -> bool:
    try:
        made = datetime.fromisoformat(_made_at(folder))
        if (folder / "key").read_text() != key:
            return False
    except (OSError, ValueError):
        return False
    now = datetime.now(UTC)
    same_days = all(
        made.astimezone(zone).date() == now.astimezone(zone).date() for zone in (UTC, ZoneInfo("Asia/Tokyo"))
    )
    return not ages or (same_days and now - made < OLDEST)


def _make(folder: Path, layer: _Layer, below: Path | None, bin_dir: Path, key: str) -> None:
    partial = folder.with_name(f"{folder.name}.new")
    for old in (folder, partial):
        shutil.rmtree(old, ignore_errors=True)
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="lifecycle-tests-", dir=_place_in_memory()) as made:
        # Durable in name only: one that is not may delete its data when it stops.
        settings = {**SETTINGS, **NOT_DURABLE}
        with Server(_opened(made), bin_dir=bin_dir, durable=True, settings=settings, seed=below) as server:
            if below is None:
                _make_login_cheap(server)
            for template in layer.templates:
                build(server, template, now)
            data = server.data
        shutil.copytree(data, partial / "data")
        shutil.copy(server.folder / "password", partial / "password")
    (partial / "made_at").write_text(now.isoformat())
    (partial / "key").write_text(key)
    partial.rename(folder)


def _make_login_cheap(server: Server) -> None:
    """Store the password hashed once instead of 4096 times: the client would hash as often at every connection."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", str(make_url(server.url()).password).encode(), salt, 1)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    verifying = hmac.digest(salted, b"Server Key", "sha256")
    verifier = "SCRAM-SHA-256$1:{}${}:{}".format(*(b64encode(part).decode() for part in (salt, stored, verifying)))
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        for role in (SUPERUSER, *LOGIN_ROLES):
            conn.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(verifier)))
