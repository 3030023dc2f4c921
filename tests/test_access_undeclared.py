"""What nobody declared is named with the line that declares it, and what is declared and gone is told."""

import shutil
from pathlib import Path

import pytest

from lifecycle.access.capability import ACCESS
from lifecycle.access.check import missing_objects, undeclared_objects
from lifecycle.access.report import access_differences, access_report
from lifecycle.database import Connection, connect, value
from lifecycle.declarations.access import AccessDeclarations
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import load_application
from tests.access_told import ACCEPTED, told
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, APPLICATION_FOLDER

pytest_plugins = ("tests.access_fixtures",)


UNDECLARED = {
    "create table diary (body text)": "diary: anon and authenticated may DELETE, INSERT, SELECT, TRUNCATE, UPDATE",
    "create table diary (body text); revoke all on diary from anon, authenticated;"
    "grant select (body) on diary to anon":
        "diary: anon may SELECT, without row-level security",
    "create view diary as select * from accounts": "and it reads with its owner's rights",
    "create materialized view diary as select * from accounts": "knows no row-level security",
    "create table diary (body text); alter table diary enable row level security": "by its own policies",
    "create function diary() returns bigint language sql security definer as 'select count(*) from accounts'":
        "diary(): runs with its owner's rights, and anon and authenticated may EXECUTE",
    "create schema api; grant usage on schema api to anon;"
    "create function api.diary() returns int language sql security definer as 'select 1'":
        "api.diary(): runs with its owner's rights, and anon may EXECUTE",
}  # fmt: skip


@pytest.mark.one_server
@pytest.mark.parametrize("statement", list(UNDECLARED))
def test_what_nobody_declared(shared_conn: Connection, statement: str) -> None:
    """In a project that opens every new table by itself."""
    conn = shared_conn
    conn.execute(statement.encode())
    list(ACCESS.objects(conn, APPLICATION))
    assert UNDECLARED[statement] in told(access_report(conn, APPLICATION))[ACCEPTED]


def test_an_undeclared_object_has_a_line_that_declares_it(shared_conn: Connection, tmp_path: Path) -> None:
    """With the proposed lines in access.yaml the check is green again, and what was open is closed."""
    conn = shared_conn
    conn.execute(
        "create table diary (account_id uuid, body text); create view diaries as select * from diary;"
        "create table guarded (account_id uuid); alter table guarded enable row level security;"
        "create policy own on guarded using (account_id = auth_account_id());"
        "create function peek() returns bigint language sql security definer as 'select count(*) from diary'"
    )
    found = undeclared_objects(conn, APPLICATION)
    assert {one.object: (one.section, one.line) for one in found} == {
        "public.diary": ("relations", "public.diary: {kind: closed}"),
        "public.diaries": ("relations", "public.diaries: {kind: statistic}"),
        "public.guarded": ("relations", "public.guarded: {kind: guarded}"),
        "public.peek()": ("routines", "public.peek: {roles: []}"),
    }
    shutil.copytree(APPLICATION_FOLDER, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "access.yaml").read_text("utf-8")
    for one in found:
        text = text.replace(f"\n{one.section}:\n", f"\n{one.section}:\n  {one.line}\n")
    (tmp_path / "access.yaml").write_text(text, "utf-8")
    extended = load_application(tmp_path)
    assert undeclared_objects(conn, extended) == ()
    list(ACCESS.objects(conn, extended))
    assert access_differences(conn, extended) == ()
    may = "select array(select n from unnest(array['diary', 'diaries', 'guarded']) n where {} order by 1)"
    assert value(conn, may.format("has_table_privilege('anon', n, 'select')")) == ["guarded"]
    assert value(conn, may.format("has_table_privilege('service_role', n, 'select')")) == [
        "diaries",
        "diary",
        "guarded",
    ]
    assert value(conn, "select has_function_privilege('anon', 'peek()', 'execute')") is False


def test_kinds_that_the_file_lacks_are_written_out(make_application_db: MakeApplicationDb) -> None:
    bare = Application(access=AccessDeclarations.model_validate({"relations": {"public.accounts": {"access": []}}}))
    with connect(make_application_db(rows=False)) as conn:
        lines = {found.object: found.line for found in undeclared_objects(conn, bare)}
    assert lines["public.reviews"] == "public.reviews: {row_security: true, access: []}"
    assert lines["public.daily_active_users"] == (
        "public.daily_active_users: {access: [{roles: [ops], verbs: [SELECT], rows: every row, granted: true}]}"
    )
    assert lines["public.chat_sessions"].endswith("rows: by the application's policies}]}")
    assert "public.accounts" not in lines


def test_what_is_declared_and_gone_is_told(shared_conn: Connection) -> None:
    conn = shared_conn
    assert missing_objects(conn, APPLICATION) == ()
    conn.execute("drop table reviews; drop view user_content_journey; drop function get_retention_rates()")
    list(ACCESS.objects(conn, APPLICATION))
    # The view is one that the application may lack.
    assert [found.object for found in missing_objects(conn, APPLICATION)] == [
        "public.reviews",
        "public.get_retention_rates",
    ]
