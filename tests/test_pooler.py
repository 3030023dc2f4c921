"""Behind a real PgBouncer in transaction mode; `make test-all` installs it as root."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from lifecycle.database import connect, goes_through_transaction_pooler, value
from lifecycle.errors import RefusedError
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.convert import convert_table
from orchestration.cli.plan_parts import collect_plan
from tests.declared import APPLICATION, EVENT_TABLES

pytestmark = pytest.mark.every_version

CONFIGURATION = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = plain
auth_file = {folder}/users
pool_mode = transaction
logfile = {folder}/log
unix_socket_dir =
"""


@pytest.fixture
def pooled(empty_application_db: str) -> Iterator[str]:
    """The URL of an application database through a transaction pooler."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.fail("no pgbouncer on PATH: apt-get install pgbouncer")
    url = urlsplit(empty_application_db)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "users").write_text(f'"{url.username}" "{url.password}"\n')
        (folder / "pgbouncer.ini").write_text(
            CONFIGURATION.format(host=url.hostname, server_port=url.port, port=port, folder=folder)
        )
        # PgBouncer refuses to run as root; nobody else may become another user.
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        pooler = subprocess.Popen([program, "-q", *user, str(folder / "pgbouncer.ini")])
        pooled_url = f"postgresql://{url.username}:{url.password}@127.0.0.1:{port}{url.path}"
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    psycopg.connect(pooled_url).close()
                    break
                except psycopg.OperationalError:
                    assert time.monotonic() < deadline, (folder / "log").read_text()
                    time.sleep(0.1)
            yield pooled_url
        finally:
            pooler.send_signal(signal.SIGINT)
            pooler.wait(20)


def test_a_transaction_pooler_is_noticed(pooled: str, empty_application_db: str) -> None:
    with connect(pooled) as conn:
        assert goes_through_transaction_pooler(conn)
    with connect(empty_application_db) as conn:
        assert not goes_through_transaction_pooler(conn)


def test_a_plan_through_the_pooler_leaves_the_applications_sessions_as_they_were(pooled: str, now: datetime) -> None:
    with connect(pooled) as conn:
        plan = collect_plan(conn, APPLICATION, now)
    assert plan.database.transaction_pooler
    with psycopg.connect(pooled) as application:
        application.execute("create table made_by_the_application ()")
        left = application.execute("select array(select name from pg_settings where source = 'session')").fetchone()
        assert left is not None
        assert not {"default_transaction_read_only", "statement_timeout", "lock_timeout"} & set(left[0])


def test_long_work_refuses_the_pooler(pooled: str, empty_application_db: str, now: datetime) -> None:
    with pytest.raises(RefusedError, match=r"transaction pooler.*5432"):
        upgrade(pooled, APPLICATION)
    upgrade(empty_application_db, APPLICATION)
    with pytest.raises(RefusedError, match=r"transaction pooler.*5432"):
        convert_table(pooled, EVENT_TABLES[0], now=now, progress=lambda *_: None)
    with connect(empty_application_db) as conn:
        assert value(conn, "select relkind::text from pg_class where oid = 'user_behavior_events'::regclass") == "r"
