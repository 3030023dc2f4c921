"""What stands in the way of making access as declared: owners, locks, roles, a process that dies."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from lifecycle.access import apply
from lifecycle.access.report import access_differences
from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import BusyError
from lifecycle.locks import LockPolicy
from lifecycle.migrating.migrate import upgrade
from lifecycle.migrating.undo import undo
from sandbox.server import SUPERUSER, Server
from tests.catalog_snapshot import catalog_snapshot
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, WITHOUT_KEPT_VIEWS


@pytest.fixture
def admin(server: Server) -> Iterator[Connection]:
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        yield conn


def test_an_object_of_somebody_else_is_named_and_the_rest_is_done(
    make_application_db: MakeApplicationDb, server: Server
) -> None:
    url = make_application_db(rows=False, migrated=True)
    with psycopg.connect(server.url(url.rpartition("/")[2], user=SUPERUSER), autocommit=True) as other:
        other.execute("alter table quiz_forms owner to supabase_admin")
        other.execute("grant truncate on quiz_forms, chat_sessions to anon")
        lines = upgrade(url, WITHOUT_KEPT_VIEWS).changes
        (told,) = [line for line in lines if "public.quiz_forms" in line]
        assert "left as it is, because it belongs to supabase_admin" in told
        assert "alter ... owner to" in told
        may = "select has_table_privilege('anon', %s, 'TRUNCATE')"
        assert (value(other, may, ("quiz_forms",)), value(other, may, ("chat_sessions",))) == (True, False)
        other.execute("alter table quiz_forms owner to postgres")
        upgrade(url, WITHOUT_KEPT_VIEWS)
        assert value(other, may, ("quiz_forms",)) is False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "LOCKS", LockPolicy(timeout=0.05, tries=2))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("tampering", "holding", "named"),
    [
        ("alter table vendors disable row level security", "select from vendors", "public.vendors"),
        (
            "grant execute on function run_daily_maintenance() to anon",
            "alter function run_daily_maintenance() cost 2",
            "run_daily_maintenance()",
        ),
        ("grant usage on schema lifecycle to anon", "grant create on schema lifecycle to service_role", "lifecycle"),
    ],
)
def test_what_stays_locked_is_named_with_who_holds_it(
    make_application_db: MakeApplicationDb, tampering: str, holding: str, named: str
) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn, psycopg.connect(url) as holder:
        conn.execute(tampering.encode())
        holder.execute(holding.encode())
        with pytest.raises(BusyError) as caught:
            upgrade(url, WITHOUT_KEPT_VIEWS)
        assert named in str(caught.value)
        assert "2 tries" in str(caught.value)
        if "schema" not in holding:
            assert f"pid {holder.info.backend_pid}" in str(caught.value)
        holder.rollback()
        upgrade(url, WITHOUT_KEPT_VIEWS)
        assert access_differences(conn, WITHOUT_KEPT_VIEWS) == ()


@pytest.mark.parametrize(
    ("auto_grant", "after"),
    [
        pytest.param(True, 0, marks=pytest.mark.every_version),
        pytest.param(True, 20, marks=pytest.mark.every_version),
        (False, 7),
    ],
)
def test_a_run_that_died_is_finished_and_the_way_back_is_whole(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch, auto_grant: bool, after: int
) -> None:
    whole = make_application_db(rows=False, auto_grant=auto_grant, migrated=True)
    url = make_application_db(rows=False, auto_grant=auto_grant)
    done = 0
    shortly = apply._shortly

    def dies(conn: Connection, name: str, work: Callable[[], object]) -> None:
        nonlocal done
        if done == after:
            raise KeyboardInterrupt
        done += 1
        shortly(conn, name, work)

    with connect(url) as conn, connect(whole) as other:
        before = catalog_snapshot(conn)
        monkeypatch.setattr(apply, "_shortly", dies)
        with pytest.raises(KeyboardInterrupt):
            upgrade(url, APPLICATION)
        monkeypatch.undo()
        upgrade(url, APPLICATION)
        assert catalog_snapshot(conn) == catalog_snapshot(other)
        kept = "select object, kind, subject, definition, declared from lifecycle.accepted_access order by 1, 2, 3"
        assert rows(conn, kept) == rows(other, kept)
        undo(url, APPLICATION, "access")
        after_it = {line for line in catalog_snapshot(conn) if line.startswith(("relation public.", "policy "))}
        upgrade(url, APPLICATION)
        undo(url, APPLICATION, "access")
        assert {line for line in catalog_snapshot(conn) if line.startswith(("relation public.", "policy "))} == after_it
        tables = ("relation public.vendors ", "relation public.search_queries ", "policy public.v")
        assert {line for line in after_it if line.startswith(tables)} == {
            line for line in before if line.startswith(tables)
        }


@contextmanager
def ops_altered(admin: Connection, change: str, back: str) -> Iterator[None]:
    """Roles are the whole server's."""
    admin.execute(change.encode())
    try:
        yield
    finally:
        admin.execute(back.encode())


@pytest.mark.parametrize(
    ("change", "back", "message"),
    [
        ("alter role ops login", "alter role ops nologin", "may do more than read"),
        ("alter role ops bypassrls", "alter role ops nobypassrls", "may do more than read"),
        ("alter role ops createrole", "alter role ops nocreaterole", "may do more than read"),
        (
            "grant pg_read_all_data to ops",
            "revoke pg_read_all_data from ops",
            "member of other roles: pg_read_all_data",
        ),
    ],
)
def test_a_role_ops_that_may_more_is_refused(
    make_application_db: MakeApplicationDb, admin: Connection, change: str, back: str, message: str
) -> None:
    make_application_db(rows=False, migrated=True)  # somebody made the role
    url = make_application_db(rows=False)
    with connect(url) as conn:
        with ops_altered(admin, change, back):
            with pytest.raises(psycopg.errors.DuplicateObject, match=message) as caught:
                upgrade(url, WITHOUT_KEPT_VIEWS)
            assert "lifecycle migrate again" in str(caught.value.diag.message_hint)
            assert value(conn, "select to_regclass('lifecycle.accepted_access')") is None
            assert value(conn, "select relrowsecurity from pg_class where relname = 'search_queries'") is False
        upgrade(url, WITHOUT_KEPT_VIEWS)


def test_without_the_right_to_make_roles(make_application_db: MakeApplicationDb, admin: Connection) -> None:
    make_application_db(rows=False, migrated=True)
    url = make_application_db(rows=False)
    with (
        ops_altered(admin, "alter role ops rename to ops_kept", "alter role ops_kept rename to ops"),
        ops_altered(admin, "alter role postgres nocreaterole", "alter role postgres createrole"),
        pytest.raises(psycopg.errors.InsufficientPrivilege, match='"postgres" may not make roles') as caught,
    ):
        upgrade(url, WITHOUT_KEPT_VIEWS)
    assert "create role ops nologin noinherit" in str(caught.value.diag.message_hint)
    upgrade(url, WITHOUT_KEPT_VIEWS)
