"""Migrations: repeatable, polite, reviewable, reversible; nothing of the application's changes but what is declared."""

import re
import threading
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, operation_lock, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import load_application
from lifecycle.errors import AlreadyRunningError, BusyError, RefusedError
from lifecycle.migrating import migrate as migrating
from lifecycle.migrating import state
from lifecycle.migrating.capabilities import CAPABILITIES, declared_capabilities
from lifecycle.migrating.functions import (
    SqlText,
    apply_functions,
    drop_leftovers,
    function_drift,
    function_files,
)
from lifecycle.migrating.migrate import upgrade
from lifecycle.migrating.script import migration_script
from lifecycle.migrating.undo import undo
from tests.catalog_snapshot import catalog_snapshot
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.migrating import PG_TRGM, session, undo_all

NOTHING = Application()
THEIRS = function_files(APPLICATION, ())
TABLES = """
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'public' and c.relkind = 'r'
"""
KEYLESS = """
select c.oid::regclass::text from pg_class c
 where c.relnamespace = 'lifecycle'::regnamespace and c.relkind in ('r', 'p')
   and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary) and c.relreplident <> 'f'
"""
# Everybody that may execute a function of ours beside its owner.
EXECUTORS = """
select f.file, f.signature, case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end
  from lifecycle.own_functions f
  join (select p.*, quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(' ||
               pg_get_function_identity_arguments(p.oid) || ')' as signature
          from pg_proc p join pg_namespace n on n.oid = p.pronamespace) p using (signature)
 cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
 where a.grantee <> p.proowner
"""
# A function of ours with a trigger and a policy on it, and the next edition of it.
FIRST = """
create or replace function lifecycle.is_allowed(wanted text) returns boolean language sql set search_path = ''
as $$ select true $$;
create or replace function lifecycle.stamp() returns trigger language plpgsql set search_path = ''
as $$ begin return new; end $$;
"""
SECOND = FIRST.replace("(wanted text)", "(wanted text, more text default '')").replace("return new", "return null")
RENAMED = FIRST.replace("(wanted text)", "(asked text)")
USED = """
create table public.guarded (id int primary key);
create trigger stamp before insert on public.guarded for each row execute function lifecycle.stamp();
alter table public.guarded enable always trigger stamp;
create policy allowed on public.guarded for select to authenticated using (lifecycle.is_allowed('x'));
"""
GUARDS = """
select pg_get_triggerdef(t.oid) || t.tgenabled::text from pg_trigger t where tgrelid = 'public.guarded'::regclass
union all select qual || roles::text from pg_policies where tablename = 'guarded' order by 1
"""


def row_counts(conn: Connection) -> dict[str, int]:
    counts = {}
    for schema, table in rows(conn, TABLES):
        row = conn.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(schema, table))).fetchone()
        counts[table] = row[0] if row else 0
    return counts


def test_what_is_not_declared_creates_nothing(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    with session(url) as conn:
        before = catalog_snapshot(conn)
        upgrade(url, NOTHING)
        made = catalog_snapshot(conn) - before
        assert not before - catalog_snapshot(conn)
        assert all("lifecycle" in line.partition(" as ")[0] for line in made)
        tables = {line.split()[1] for line in made if line.startswith("relation ") and " kind r " in line}
        assert {name for name in tables if "policies" in name or "partition" in name} == set()
        for role in ("anon", "authenticated", "service_role"):
            assert not value(conn, "select has_schema_privilege(%s, 'lifecycle', 'usage')", (role,))


def test_a_database_with_rows_keeps_every_row(application_db: str) -> None:
    with session(application_db) as conn:
        before = row_counts(conn)
        assert sum(before.values()) > 0
        upgrade(application_db, APPLICATION)
        after = row_counts(conn)
        assert {name: after[name] for name in before} == before


def test_repeating_changes_nothing_and_says_so(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with session(url) as conn:
        before = catalog_snapshot(conn)
        assert upgrade(url, APPLICATION).changes == ()
        assert catalog_snapshot(conn) == before


def test_repeating_restores_the_policy_tables(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    kept = "select retention::text from lifecycle.event_table_policies order by table_name"
    with session(url) as conn:
        before = rows(conn, kept)
        conn.execute("update lifecycle.event_table_policies set retention = '1 day'")
        upgrade(url, APPLICATION)
        assert rows(conn, kept) == before


@pytest.mark.every_version
def test_what_is_declared_no_more_is_never_acted_on(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with session(url) as conn:
        upgrade(url, NOTHING)
        assert value(conn, "select count(*) from lifecycle.event_table_policies") == 0
        with pytest.raises(psycopg.errors.UndefinedTable, match="is declared"):
            rows(conn, "select * from public.rotate_event_partitions()")
        assert upgrade(url, APPLICATION).changes != ()
        assert value(conn, "select count(*) from lifecycle.event_table_policies") == len(APPLICATION.event_tables)


def test_an_older_release_refuses(make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_application_db(rows=False)
    monkeypatch.setattr(state, "release", lambda: "0.10.0")
    upgrade(url, NOTHING)
    monkeypatch.setattr(state, "release", lambda: "0.9.9")
    for attempt in (lambda: upgrade(url, APPLICATION), lambda: undo(url, APPLICATION, "ledger")):
        with pytest.raises(RefusedError, match=r"migrated by release 0\.10\.0, and this is 0\.9\.9"):
            attempt()
    with session(url) as conn:
        assert value(conn, "select to_regclass('lifecycle.event_table_policies')") is None


def test_a_function_that_somebody_changed_is_found_and_made_anew(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with session(url) as conn:
        before = catalog_snapshot(conn)
        conn.execute(
            "create or replace function lifecycle.milliseconds_since(started timestamptz) returns bigint "
            "language sql set search_path = '' as $$ select 0::bigint $$"
        )
        conn.execute("grant execute on function lifecycle.first_line(text) to anon")
        conn.execute("drop function lifecycle.ledger_entries")
        assert [(name.partition("(")[0], told.split()[0]) for name, told in function_drift(conn)] == [
            ("lifecycle.first_line", "has"),
            ("lifecycle.ledger_entries", "is"),
            ("lifecycle.milliseconds_since", "has"),
        ]
        upgrade(url, APPLICATION)
        assert catalog_snapshot(conn) == before
        assert function_drift(conn) == []


@pytest.mark.parametrize("later", [SECOND, RENAMED])
def test_what_uses_a_function_moves_to_the_next_edition(make_application_db: MakeApplicationDb, later: str) -> None:
    url = make_application_db(rows=False, migrated=True)
    with session(url) as conn:
        file = SqlText("ledger/guards.sql", FIRST, {})
        list(apply_functions(conn, [file, *THEIRS], ()))
        conn.execute(USED.encode())
        before = rows(conn, GUARDS)
        changes = list(apply_functions(conn, [replace(file, text=later), *THEIRS], ()))
        assert sorted(change.rpartition(": ")[2] for change in changes)[-1] in ("made", "changed")
        assert rows(conn, GUARDS) == [(line.replace("'x'::text", "'x'::text, ''::text"),) for (line,) in before] or (
            rows(conn, GUARDS) == before
        )
        assert value(conn, "select count(*) from pg_proc where proname = 'is_allowed'") == 1


def test_a_function_moves_from_file_to_file(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    one, other = (SqlText(f"ledger/{name}.sql", FIRST, {}) for name in ("one", "other"))
    with session(url) as conn:
        list(apply_functions(conn, [one, *THEIRS], ()))
        conn.execute(USED.encode())
        before = catalog_snapshot(conn)
        for files in ([replace(one, text=""), other], [one, replace(other, text="")]):
            assert list(apply_functions(conn, [*files, *THEIRS], ())) != []
            assert list(drop_leftovers(conn)) == []
            assert catalog_snapshot(conn) == before
        conn.execute("drop table public.guarded")
        list(apply_functions(conn, [replace(one, text=""), *THEIRS], ()))
        assert len(list(drop_leftovers(conn))) == 2
        assert value(conn, "select to_regproc('lifecycle.is_allowed')") is None


def test_what_cannot_move_is_refused_and_nothing_changes(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with session(url) as conn:
        file = SqlText("ledger/guards.sql", FIRST, {})
        list(apply_functions(conn, [file, *THEIRS], ()))
        conn.execute(USED.encode())
        conn.execute("create view public.asked as select lifecycle.is_allowed('x')")
        before = catalog_snapshot(conn)
        with pytest.raises(RefusedError, match=r"lifecycle\.is_allowed.*view public\.asked"):
            list(apply_functions(conn, [replace(file, text=SECOND), *THEIRS], ()))
        conn.execute("drop view public.asked")
        without_default = SECOND.replace(" default ''", "")
        with pytest.raises(RefusedError, match=r"other parameters.*create policy allowed"):
            list(apply_functions(conn, [replace(file, text=without_default), *THEIRS], ()))
        assert before - catalog_snapshot(conn) == {line for line in before if "public.asked" in line}


@pytest.mark.every_version
def test_the_printed_script_makes_the_same_tables_and_functions(make_application_db: MakeApplicationDb) -> None:
    printed, migrated = make_application_db(rows=False), make_application_db(rows=False, migrated=True)
    script = migration_script(APPLICATION)
    with psycopg.connect(printed, autocommit=True) as conn:
        for section in re.split(r"^-- \d+\. .*\n-- -+$", script, flags=re.MULTILINE)[1:]:
            alone = [section] if "\nbegin;\n" in section else section.split(";\n")
            for statement in alone:
                conn.execute(statement.strip().removesuffix(";").encode())
    with session(printed) as one, session(migrated) as other:
        ours = {line for line in catalog_snapshot(other) if "lifecycle." in line.partition(" as ")[0]}
        made = ours - catalog_snapshot(one)
        # What looks at the catalog first is left out: tables of kept views.
        static = {line for line in made if not line.startswith("relation lifecycle.kept_")}
        assert {line for line in static if line.startswith(("relation lifecycle", "function "))} == set()
        assert rows(one, "table lifecycle.event_table_policies") == rows(other, "table lifecycle.event_table_policies")
    changes = upgrade(printed, APPLICATION).changes
    assert not [change for change in changes if change.startswith("revision ")]
    titles = [line for line in script.splitlines() if line.startswith("--   ")]
    assert [f"-- {line.removeprefix('--').strip()}" in script.splitlines() for line in titles] == [True] * len(titles)


def test_an_open_transaction_is_waited_for(make_application_db: MakeApplicationDb) -> None:
    """What needs a table of the application's for an instant gives way until it gets it; everybody else goes on."""
    url = make_application_db(rows=False)
    table = next(iter(APPLICATION.event_tables))
    read = sql.SQL("select count(*) from {}").format(table.identifier)
    with psycopg.connect(url) as holder, session(url) as reader:
        holder.execute(read)
        migration = threading.Thread(target=upgrade, args=(url, APPLICATION))
        migration.start()
        reader.execute("set lock_timeout = '2s'")
        while migration.is_alive():
            reader.execute(read)
            holder.commit()
            migration.join(0.1)
    with session(url) as conn:
        assert function_drift(conn) == []


@pytest.mark.every_version
def test_locks_that_stay_taken_end_in_a_busy_error(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_application_db(rows=False)
    upgrade(url, NOTHING)
    monkeypatch.setattr(migrating, "TRIES", 2)
    with psycopg.connect(url) as holder:
        holder.execute("lock table lifecycle.alembic_version in access exclusive mode")
        pauses: list[float] = []
        with pytest.raises(BusyError, match=r"2 tries of 500ms"):
            upgrade(url, APPLICATION, sleep=pauses.append)
        assert len(pauses) == 1
    upgrade(url, APPLICATION)


def test_one_migration_at_a_time(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    with (
        session(url) as conn,
        operation_lock(conn, "migrate"),
        pytest.raises(AlreadyRunningError, match=f"pid {conn.info.backend_pid}"),
    ):
        upgrade(url, APPLICATION)


def test_every_table_has_a_key_and_every_function_is_closed(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    files = function_files(APPLICATION, CAPABILITIES)
    with session(url) as conn:
        assert rows(conn, KEYLESS) == []
        for file, signature, role in rows(conn, EXECUTORS):
            (text,) = [each for each in files if each.name == file]
            assert role in text.executors_of(signature), signature
        assert value(conn, "select count(*) from lifecycle.own_functions") > 0
        unsafe = "select proname from pg_proc where pronamespace = 'lifecycle'::regnamespace and proconfig is null"
        assert rows(conn, unsafe) == []


@pytest.mark.every_version
@pytest.mark.parametrize("auto_grant", [True, False])
def test_the_way_back_leaves_the_database_as_it_was(make_application_db: MakeApplicationDb, auto_grant: bool) -> None:
    url = make_application_db(rows=False, auto_grant=auto_grant)
    with session(url) as conn:
        before = catalog_snapshot(conn)
        upgrade(url, APPLICATION)
        undo_all(url, APPLICATION)
        after = catalog_snapshot(conn)
        assert before - after == set()
        left = after - before - {PG_TRGM}
        # What kept views said in the past is nobody's to delete but a person's.
        assert {line for line in left if "_history" not in line and not line.startswith("schema lifecycle ")} == set()
        upgrade(url, APPLICATION)


@pytest.mark.every_version
def test_one_capability_goes_and_comes_back(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with session(url) as conn:
        before = catalog_snapshot(conn)
        for capability in declared_capabilities(APPLICATION)[2:]:
            if capability.name == "partitions":
                with pytest.raises(RefusedError, match="cold need partitions"):
                    undo(url, APPLICATION, capability.name)
                undo(url, APPLICATION, "cold")
            assert undo(url, APPLICATION, capability.name).changes, capability.name
            assert undo(url, APPLICATION, capability.name).changes == (), capability.name
            upgrade(url, APPLICATION)
            assert catalog_snapshot(conn) == before, capability.name


def test_the_ground_goes_last(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with pytest.raises(RefusedError, match=r"need ledger.*lifecycle undo partitions"):
        undo(url, APPLICATION, "ledger")
    with pytest.raises(RefusedError, match=r"no capability; they are migrating, ledger"):
        undo(url, APPLICATION, "leger")


def test_undo_where_nothing_ever_was(make_application_db: MakeApplicationDb) -> None:
    assert undo(make_application_db(rows=False), APPLICATION, "partitions").changes == ()


def test_a_folder_that_declares_nothing(tmp_path: Path, make_application_db: MakeApplicationDb) -> None:
    assert load_application(tmp_path) == NOTHING
    url = make_application_db(rows=False)
    upgrade(url, NOTHING)
    assert upgrade(url, NOTHING).changes == ()
