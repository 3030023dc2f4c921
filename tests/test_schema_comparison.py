"""migra, on which `supabase db diff` stands: between the application's migrations and an adopted database.

`make schema-tools` installs it, apart: it needs an older SQLAlchemy and setuptools than we do.
"""

import re
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from lifecycle.database import connect
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.convert import convert_table
from sandbox.server import Server
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, EVENT_TABLES
from tests.dumping import SCHEMA_TOOLS, commands_with, run_page
from tests.partitioned import MakePartitionedDb

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]
pytest_plugins = ["tests.partitioned_fixtures"]

MIGRA = SCHEMA_TOOLS / "bin/migra"
# What would take something of the application's away, or exchange it.
DROPPED = re.compile(
    r'^drop (table|view|materialized view|function|sequence|type)(?: if exists)? "public"\."(\w+)"', re.M
)
VIEW = re.compile(r'^create (?:or replace view|materialized view) "public"\."(\w+)"', re.M)


def compared(before: str, after: str, *options: str) -> str:
    """The statements that would make `before` like `after`, as `supabase db diff` prints them."""
    if not MIGRA.exists():
        pytest.fail("migra is not installed: make schema-tools")
    done = subprocess.run(
        # A warning of its packages about each other.
        [str(MIGRA.with_name("python")), "-W", "ignore", str(MIGRA), "--unsafe", *options, before, after],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.returncode in (0, 2)  # nothing to do, something to do
    return done.stdout


def dropped(statements: str) -> set[tuple[str, str]]:
    return {(kind, name) for kind, name in DROPPED.findall(statements)}


def test_a_database_of_names_only_has_more_and_nothing_less(make_application_db: MakeApplicationDb) -> None:
    """`supabase db diff` after `migrate --dev`: additions, and the policies that access.yaml replaces."""
    reset, dev = make_application_db(rows=False), make_application_db(rows=False)
    upgrade(dev, APPLICATION, dev=True)
    for options in ((), ("--schema", "public")):
        statements = compared(reset, dev, *options)
        assert dropped(statements) == set()
        made = {table.recent_view.name for table in APPLICATION.archived_tables.values() if table.recent_view}
        assert set(VIEW.findall(statements)) == made


def test_like_is_compared_with_like(
    make_application_db: MakeApplicationDb,
    make_partitioned_db: MakePartitionedDb,
    server: Server,
    tmp_path: Path,
    now: datetime,
) -> None:
    """A reset that was migrated and converted says what the migrations would come to: exactly the adopted database."""
    adopted, local = make_partitioned_db(), make_application_db(rows=False, migrated=True)
    for table in EVENT_TABLES:
        convert_table(local, table, now=now, progress=lambda *_: None)
    assert compared(local, adopted, "--schema", "public") == ""
    commands = commands_with("migra ")
    assert run_page(server, commands, tmp_path, LOCAL=local, PRODUCTION=adopted) == ("", [])
    assert "create table" in (tmp_path / "production.sql").read_text(encoding="utf-8").lower()
    with connect(adopted) as conn:
        conn.execute("alter table user_behavior_events add column by_hand text")
        conn.execute("create index by_hand on vouchers (created_at)")
    found = compared(local, adopted, "--schema", "public")
    assert 'alter table "public"."user_behavior_events" add column "by_hand" text;' in found
    assert "CREATE INDEX by_hand ON public.vouchers" in found
    assert (dropped(found), VIEW.findall(found)) == (set(), [])


def test_what_the_bare_migrations_miss_is_what_the_page_lists(
    make_application_db: MakeApplicationDb, make_partitioned_db: MakePartitionedDb
) -> None:
    """`supabase db diff --linked`, `db pull`: they end, and would take the event tables and kept views back."""
    statements = compared(make_application_db(rows=False), make_partitioned_db())
    assert {name for kind, name in dropped(statements) if kind == "table"} == {table.name for table in EVENT_TABLES}
    views = {name.name for name in APPLICATION.views.kept}
    assert set(VIEW.findall(statements)) & views
    assert {kind for kind, _ in dropped(statements)} == {"table", "materialized view"}
