"""The map of personal data beside the live schema: nothing unnamed, nothing named that is not there."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lifecycle.database import connect, rows, value
from lifecycle.erasures.data_map import Action, Treatment
from lifecycle.erasures.own_tables import DATA_MAP
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conftest import MakeApplicationDb, Templates

UNMAPPED = "select table_name, column_name from lifecycle.unmapped_columns()"
COLUMNS = """
select format('%%I.%%I', n.nspname, c.relname), a.attname::text
  from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
 where n.nspname in ('public', 'lifecycle') and c.relkind in ('r', 'p', 'm') and a.attnum > 0 and not a.attisdropped
   and %s::text is null
"""
VERSIONS = Path(__file__).parents[1] / "migrations" / "versions"
API_ROLES = ("anon", "authenticated", "service_role")
CREATED = re.compile(r"^create (?:function|procedure) ((?:public|lifecycle)\.\w+)", re.MULTILINE)
OPEN_ROUTINES = """
select r.role, p.oid::regprocedure::text from pg_proc p cross join unnest(%s::text[]) r(role)
 where format('%%s.%%s', p.pronamespace::regnamespace, p.proname) = any (%s)
   and has_function_privilege(r.role, p.oid, 'execute')
"""
OPEN_TABLES = """
select r.role, c.oid::regclass::text from pg_class c cross join unnest(%s::text[]) r(role)
 where c.relnamespace = 'lifecycle'::regnamespace and c.relkind in ('r', 'v', 'm', 'S')
   and c.relname ~ 'eras|deletion|suppress|personal'
   and has_table_privilege(r.role, c.oid, 'select, insert, update, delete, truncate')
"""


@pytest.fixture(scope="module")
def url(server: Server, templates: Templates) -> Iterator[str]:
    """A migrated database for tests that leave nothing behind."""
    yield clone_database(server, templates(False, True, True), "map_of_personal_data")
    drop_database(server, "map_of_personal_data")


def test_every_column_that_could_hold_personal_data_is_on_the_map(url: str) -> None:
    with connect(url) as conn:
        assert not rows(conn, UNMAPPED)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("create table public.wishes (id bigint, wish text)", ("public.wishes", "wish")),
        ("create table public.wishes (number int, who uuid[])", ("public.wishes", "who")),
        ("create schema crm create table wishes (id int, note varchar(9))", ("crm.wishes", "note")),
        ("create materialized view public.wishes as select id from accounts", ("public.wishes", "id")),
        ("create domain public.mail as text; create table wishes (m mail)", ("public.wishes", "m")),
        ("create domain public.person as uuid; create table wishes (p person)", ("public.wishes", "p")),
        ("create domain public.doc as jsonb; create table wishes (d doc)", ("public.wishes", "d")),
        ("create table public.wishes (found tsvector)", ("public.wishes", "found")),
        ("create type public.pair as (a text); create table wishes (names pair)", ("public.wishes", "names")),
        (
            "alter table public.user_behavior_events add column nickname text",
            ("public.user_behavior_events", "nickname"),
        ),
        ("alter table public.form_submissions add column scan bytea", ("public.form_submissions", "scan")),
        ("alter table public.accounts add column mail text", ("public.accounts", "mail")),
        ("alter table public.vouchers add column giver jsonb", ("public.vouchers", "giver")),
    ],
)
def test_what_is_added_later_and_not_mapped_is_named(url: str, change: str, expected: tuple[str, str]) -> None:
    with connect(url) as conn, conn.transaction(force_rollback=True):
        conn.execute(change.encode())
        assert rows(conn, UNMAPPED) == [expected]


def test_the_map_names_only_what_exists(url: str) -> None:
    with connect(url) as conn:
        live = set(rows(conn, COLUMNS, (None,)))
    tables = {table for table, _ in live}
    for table in DATA_MAP:
        assert table.qualified_name in tables
        named = {column for column in table.treatments() if column != "*"} | {step.key_column for step in table.steps}
        named |= {step.unowned for step in table.steps if step.unowned}
        assert {(table.qualified_name, column) for column in named} <= live, table.name


def test_what_a_scrub_leaves_is_declared_by_name(url: str) -> None:
    """A star would silently cover a column that is added to a row that stays."""
    for table in DATA_MAP:
        if any(step.action is Action.scrub for step in table.steps):
            assert "*" not in table.treatments(), table.name
    with connect(url) as conn:
        stays = {table.qualified_name for table in DATA_MAP if any(s.action is Action.scrub for s in table.steps)}
        held = rows(conn, "select table_name, column_name from lifecycle.searched_columns()")
        declared = set(rows(conn, "select table_name, column_name from lifecycle.personal_data_columns"))
    assert {(table, column) for table, column in held if table in stays} <= declared


def test_every_exemption_has_its_reason() -> None:
    for table in DATA_MAP:
        for column, (treatment, reason) in table.treatments().items():
            assert treatment is not Treatment.exempt or len(reason.split()) > 3, f"{table.name}.{column}"


@pytest.mark.parametrize("auto_grant", [True, False])
def test_the_api_roles_have_no_part_in_it(make_application_db: MakeApplicationDb, auto_grant: bool) -> None:
    with connect(make_application_db(rows=False, auto_grant=auto_grant, migrated=True)) as conn:
        made_by = [path.read_text(encoding="utf-8") for path in VERSIONS.glob("001[0-2]_*.sql")]
        routines = [name for text in made_by for name in CREATED.findall(text)]
        assert "public.enqueue_deletion_jobs" in routines
        assert not rows(conn, OPEN_ROUTINES, (list(API_ROLES), routines))
        assert not rows(conn, OPEN_TABLES, (list(API_ROLES),))
        closed = (
            "select r.role from unnest(%s::text[]) r(role) where has_schema_privilege(r.role, 'lifecycle', 'usage')"
        )
        assert not rows(conn, closed, (list(API_ROLES),))
        assert value(conn, "select count(*) from lifecycle.erasure_steps") > 0
