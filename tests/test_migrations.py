"""Migrations: repeatable, polite, reviewable, reversible; nothing of the application's changes."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lifecycle import migrate
from lifecycle.database import Connection, operation_lock, rows, value
from lifecycle.errors import AlreadyRunningError, BusyError
from lifecycle.indexes.policy import INDEXES
from lifecycle.migrating.migrate import INDEXES_FOLLOW, migration_sql, upgrade
from lifecycle.policy import EVENT_TABLES, ROTATION_LOCKS
from lifecycle.statistics import STATISTICS
from sandbox import application
from sandbox.application import drop_database
from sandbox.server import Server
from tests.catalog_snapshot import catalog_snapshot
from tests.conftest import MakeApplicationDb
from tests.migrating import PG_TRGM, downgrade, session

APPLICATION_SQL = Path(application.__file__).parent / "sql"
OURS = (
    "lifecycle.",
    "event_partitions",
    "rotate_event_partitions",
    " lifecycle ",
    "run_daily_maintenance",
    "refresh_account_segments",
    "recommend_activities",
    "refresh_analytics_hourly",
    "refresh_derived_statistics",
    "chat_messages_archive",
    "chat_messages_recent",
    "archived_chat_messages",
    "delete_expired_vouchers",
    "deletion_jobs",
    "deletion_request(",
    "find_returned_personal_data",
    "is_ops_role",
    " private",
    ".lifecycle: ",
    "search_chat_titles",
    PG_TRGM,
    *(index.name for index in INDEXES),
)
# The ledger grows with the first fill.
TABLES = """
select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'm', 'v')
   and relname <> 'audit_events'
"""
# Views of the application that answer from tables; all but the first were views before.
ANSWERED = ("account_function_usage", *(statistic.name for statistic in STATISTICS))


def is_ours(line: str) -> bool:
    return any(word in line.partition(" as ")[0] for word in OURS)


def head(line: str) -> str:
    """A line of the snapshot without the definition."""
    return line.partition(" as ")[0]


def is_answered(line: str) -> bool:
    return line.startswith(tuple(f"relation public.{name} " for name in ANSWERED))


def without_access(line: str) -> str:
    """A line without what `lifecycle migrate` is to change of the application's: tests/test_access_policies.py."""
    if line.startswith(("relation public.", "function ")):
        return re.sub(r" acl \{.*?\}| rls [tf]", "", line)
    return re.sub(r"\{(public|service_role)\}", "", line) if line.startswith("policy ") else line


def row_counts(conn: Connection) -> dict[str, int]:
    counts = {}
    for (table,) in rows(conn, TABLES):
        row = conn.execute(sql.SQL("select count(*) from public.{}").format(sql.Identifier(table))).fetchone()
        counts[table] = row[0] if row else 0
    return counts


@pytest.mark.parametrize("auto_grant", [True, False])
def test_nothing_of_the_applications_changes_but_the_maintenance(
    make_application_db: MakeApplicationDb, auto_grant: bool
) -> None:
    url = make_application_db(rows=False, auto_grant=auto_grant)
    with session(url) as conn:
        before = {without_access(line) for line in catalog_snapshot(conn)}
        upgrade(url)
        after = {without_access(line) for line in catalog_snapshot(conn)}
        gone = {line for line in before - after if "run_daily_maintenance" not in line}
        assert {line for line in gone if not is_answered(line)} == {
            line for line in gone if "account_function_usage_account_id_function_name_idx" in line
        }
        assert [line for line in after - before if not is_ours(line) and not is_answered(line)] == []
        # Kind, owner, options and comment of the views stay; columns stay with names and types.
        for name in ANSWERED:
            was, now_is = ({head(line) for line in lines if head(line).startswith(f"relation public.{name} ")}
                           for lines in (before, after))  # fmt: skip
            if name == "account_function_usage":
                was = {line.replace(" kind m ", " kind v ").replace("replica d", "replica n") for line in was}
            assert was == now_is
        for role in ("anon", "authenticated"):
            for schema in ("lifecycle", "event_partitions"):
                assert not value(conn, "select has_schema_privilege(%s, %s, 'usage')", (role, schema))


def test_a_database_with_rows_keeps_every_row(application_db: str) -> None:
    with session(application_db) as conn:
        before = row_counts(conn)
        assert before["user_behavior_events"] > 0
        upgrade(application_db)
        after = row_counts(conn)
        assert {name: after[name] for name in before} == before


def test_repeating_changes_nothing(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with session(url) as conn:
        before = catalog_snapshot(conn), rows(conn, "select * from lifecycle.event_table_policies order by 2")
        upgrade(url)
        assert (catalog_snapshot(conn), rows(conn, "select * from lifecycle.event_table_policies order by 2")) == before
        assert value(conn, "select count(*) from lifecycle.original_functions") == 1
        assert "swallowed" not in value(conn, "select prosrc from pg_proc where proname = 'run_daily_maintenance'")


def test_repeating_restores_the_policy_table(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with session(url) as conn:
        conn.execute("update lifecycle.event_table_policies set retention = '1 day', lock_tries = 1")
        upgrade(url)
        assert {row[0] for row in rows(conn, "select lock_tries from lifecycle.event_table_policies")} == {
            ROTATION_LOCKS.tries
        }


def test_the_version_table_lives_in_our_schema(make_application_db: MakeApplicationDb) -> None:
    with session(make_application_db(rows=False, migrated=True)) as conn:
        found = rows(conn, "select relnamespace::regnamespace::text from pg_class where relname = 'alembic_version'")
        assert found == [("lifecycle",)]
        assert rows(conn, "select version_num from lifecycle.alembic_version") == [("0015",)]


def test_the_printed_sql_makes_the_same_objects(make_application_db: MakeApplicationDb) -> None:
    migrated, printed = make_application_db(rows=False, migrated=True), make_application_db(rows=False)
    with psycopg.connect(printed, autocommit=True) as conn:
        revisions, indexes = migration_sql().split(INDEXES_FOLLOW)
        conn.execute(revisions.encode())
        for statement in indexes.strip().split(";\n"):
            conn.execute(statement.rstrip(";").encode())
    with session(migrated) as one, session(printed) as other:
        assert catalog_snapshot(one) == catalog_snapshot(other)
        for table in ("event_table_policies", "alembic_version"):
            content = sql.SQL("select t::text from lifecycle.{} t order by 1").format(sql.Identifier(table))
            assert one.execute(content).fetchall() == other.execute(content).fetchall()
    upgrade(printed)


def test_a_held_ledger_is_waited_for(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    pauses: list[float] = []
    with psycopg.connect(url) as holder:
        holder.execute("lock table audit_events in access exclusive mode")

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            holder.rollback()

        upgrade(url, sleep=pause)
    assert pauses
    with session(url) as conn:
        assert value(conn, "select version_num from lifecycle.alembic_version") == "0015"


def test_a_ledger_that_stays_held_ends_in_a_busy_error(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_application_db(rows=False)
    monkeypatch.setattr(migrate, "MIGRATION_TRIES", 2)
    monkeypatch.setattr(migrate, "MIGRATION_LOCK_TIMEOUT", "50ms")
    with psycopg.connect(url) as holder:
        holder.execute("lock table audit_events in access exclusive mode")
        pauses: list[float] = []
        with pytest.raises(BusyError, match=r"2 tries of 50ms.*lifecycle migrate"):
            upgrade(url, sleep=pauses.append)
        assert len(pauses) == 1
        holder.rollback()
    with session(url) as conn:
        assert value(conn, "select to_regclass('lifecycle.event_table_policies')") is None
        assert value(conn, "select to_regprocedure('rotate_event_partitions(timestamptz, text)')") is None
    upgrade(url)


def test_an_open_transaction_is_waited_for_and_nobody_waits_behind(make_application_db: MakeApplicationDb) -> None:
    """Row-level security needs the table for an instant; until it has it, everybody else goes on."""
    url = make_application_db(rows=False)
    replay = "insert into session_replay_events (session_id, event_type, event_data) values ('x', 'y', '{}')"
    secured = "select relrowsecurity from pg_class where oid = 'public.session_replay_events'::regclass"
    with psycopg.connect(url) as holder, session(url) as writer:
        holder.execute(replay)
        holder.execute("insert into audit_events (entity_type, entity_id, event_type) values ('a', 'b', 'c')")
        migration = threading.Thread(target=upgrade, args=(url,))
        migration.start()
        in_the_way = f"""select count(*) from pg_stat_activity where wait_event_type = 'Lock'
            and {holder.info.backend_pid} = any (pg_blocking_pids(pid))"""
        writer.execute("set lock_timeout = '2s'")
        seen = 0
        while migration.is_alive() and seen < 5:
            seen += value(writer, in_the_way)
            writer.execute(replay)
        assert seen == 5
        assert not value(writer, secured)
        holder.commit()
        migration.join(20)
        assert not migration.is_alive()
        assert value(writer, secured)


def test_one_migration_at_a_time(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    with (
        session(url) as conn,
        operation_lock(conn, "migrate"),
        pytest.raises(AlreadyRunningError, match=f"pid {conn.info.backend_pid}"),
    ):
        upgrade(url)


@pytest.fixture
def plain_server_db(server: Server) -> Iterator[str]:
    """A database on a server that is not Supabase's: no API roles, only the application's own objects."""
    with psycopg.connect(server.url(user="supabase_admin"), autocommit=True) as admin:
        admin.execute("create database plain owner postgres template template0")
        for role in ("anon", "authenticated"):
            admin.execute(
                sql.SQL("alter role {} rename to {}").format(sql.Identifier(role), sql.Identifier(f"no_{role}"))
            )
        try:
            with psycopg.connect(server.url("plain"), autocommit=True) as conn:
                conn.execute("create schema auth; create function auth.uid() returns uuid return null::uuid")
                for name in ("tables", "functions", "views"):
                    conn.execute((APPLICATION_SQL / f"{name}.sql").read_bytes())
            yield server.url("plain")
        finally:
            for role in ("anon", "authenticated"):
                admin.execute(
                    sql.SQL("alter role {} rename to {}").format(sql.Identifier(f"no_{role}"), sql.Identifier(role))
                )
            drop_database(server, "plain")


def test_another_database_is_refused_by_the_names_of_what_it_lacks(plain_server_db: str) -> None:
    with session(plain_server_db) as conn:
        conn.execute("drop table chat_messages cascade")
        with pytest.raises(
            psycopg.errors.RaiseException, match=r"lacks tables of the application: public\.chat_messages"
        ):
            upgrade(plain_server_db)
        assert value(conn, "select version_num from lifecycle.alembic_version") == "0002"


@pytest.mark.parametrize("search_path", ["", "somewhere, public"])
def test_a_server_without_the_api_roles_and_an_odd_search_path(plain_server_db: str, search_path: str) -> None:
    with session(plain_server_db) as conn:
        conn.execute(sql.SQL("alter database plain set search_path = {}").format(sql.Literal(search_path)))
        upgrade(plain_server_db)
        upgrade(plain_server_db)
        found = rows(conn, "select outcome, error from public.rotate_event_partitions()")
        assert [outcome for outcome, _ in found] == ["failure"] * len(EVENT_TABLES)
        rotated = "select count(*) from public.audit_events where entity_id = 'rotate_event_partitions'"
        assert value(conn, rotated) == len(EVENT_TABLES)
        found = rows(conn, "select outcome from public.refresh_derived_statistics()")
        assert {outcome for (outcome,) in found} == {"success"}
        downgrade(plain_server_db)
