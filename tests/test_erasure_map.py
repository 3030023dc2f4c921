"""The map of personal data beside the live schema: nothing unnamed, nothing named that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from textwrap import indent
from typing import Final

import pytest

from lifecycle.database import connect, rows, value
from lifecycle.declarations.loader import load_application
from lifecycle.erasures.check import proposals, undeclared_columns
from lifecycle.erasures.data_map import mapped_tables
from lifecycle.erasures.status import erasure_health
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conftest import MakeApplicationDb, Templates
from tests.declared import APPLICATION

UNMAPPED = "select table_name, column_name from lifecycle.unmapped_columns()"
COLUMNS = """
select format('%%I.%%I', n.nspname, c.relname), a.attname::text
  from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
 where n.nspname in ('public', 'lifecycle') and c.relkind in ('r', 'p', 'm') and a.attnum > 0 and not a.attisdropped
   and %s::text is null
"""
SHIPPED = Path(__file__).parents[1] / "application"
FILES = Path(__file__).parents[1] / "lifecycle" / "erasures"
API_ROLES = ("anon", "authenticated", "service_role")
CREATED = re.compile(r"^create or replace (?:function|procedure) ((?:public|lifecycle)\.\w+)", re.MULTILINE)
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


@pytest.fixture(scope="module", params=["november", "december"])
def each_state(request: pytest.FixtureRequest, server: Server, templates: Templates) -> Iterator[str]:
    """The application before and after its own migrations of December, each migrated by us then."""
    name = f"map_in_{request.param}"
    yield clone_database(server, templates(False, True, True, request.param == "december"), name)
    drop_database(server, name)


def test_the_map_is_complete_and_names_only_what_exists(each_state: str) -> None:
    """What only one of the two states has is optional."""
    with connect(each_state) as conn:
        health = erasure_health(conn)
        assert (health.unmapped_columns, health.missing_columns) == ((), ())
        assert undeclared_columns(conn, APPLICATION) == ()
        live = {table for table, _ in rows(conn, COLUMNS, (None,))}
    tables = {str(table.name): table.declared for table in mapped_tables(APPLICATION)}
    assert {name for name, declared in tables.items() if not declared.optional} <= live


def test_what_a_scrub_leaves_is_declared_by_name(url: str) -> None:
    """A star would silently cover a column that is added to a row that stays."""
    stays = {str(table.name) for table in mapped_tables(APPLICATION) if any(s.do == "scrub" for s in table.steps)}
    for table in mapped_tables(APPLICATION):
        if str(table.name) in stays:
            assert "*" not in table.treatments, table.name
    with connect(url) as conn:
        held = rows(conn, "select table_name, column_name from lifecycle.searched_columns()")
        declared = set(rows(conn, "select table_name, column_name from lifecycle.personal_data_columns"))
    assert {(table, column) for table, column in held if table in stays} <= declared


def test_every_exemption_has_its_reason() -> None:
    for table in mapped_tables(APPLICATION):
        for column, (treatment, reason) in table.treatments.items():
            assert treatment != "exempt" or len(reason.split()) > 3, f"{table.name}.{column}"


DIARY: Final = """
create table public.diaries (id uuid primary key, account_id uuid references accounts on delete cascade, page text);
create table public.stamps (album uuid references accounts on delete set null, note text, seen_from inet);
create table public.albums (id int, place text);
alter table public.accounts add column mood text
"""
PROPOSED: Final = {
    "public.diaries": ["- {by: account_id, key: person}", "redacted: [page]"],
    "public.stamps": [
        "- {by: album, key: person, do: scrub, set: {album: null}}",
        "redacted: [note]",
        "clean: [seen_from]",
    ],
    "public.albums": ["clean: [place]"],
    "public.accounts": ["redacted: [mood]"],
}


def test_what_is_new_is_proposed_in_lines_that_make_the_map_whole(url: str, tmp_path: Path) -> None:
    """Foreign keys say how a row is found; once the lines are pasted nothing is left to say."""
    with connect(url) as conn, conn.transaction(force_rollback=True):
        conn.execute(DIARY.encode())
        found = {str(each.table): each for each in proposals(undeclared_columns(conn, APPLICATION))}
        assert set(found) == set(PROPOSED)
        for name, lines in PROPOSED.items():
            assert [line for line in lines if line not in found[name].lines] == []
        text = (SHIPPED / "personal_data.yaml").read_text(encoding="utf-8")
        pasted = "".join(indent(f"{each.lines}\n", "  ") for each in found.values() if each.new)
        kept = "    redacted: [onboarding_state, profile, utm_source"
        assert kept in text
        copytree(SHIPPED, tmp_path / "application")
        changed = text.replace(kept, f"{kept}, mood") + pasted
        (tmp_path / "application" / "personal_data.yaml").write_text(changed, encoding="utf-8")
        assert undeclared_columns(conn, load_application(tmp_path / "application")) == ()


@pytest.mark.parametrize("auto_grant", [True, False])
def test_the_api_roles_have_no_part_in_it(make_application_db: MakeApplicationDb, auto_grant: bool) -> None:
    with connect(make_application_db(rows=False, auto_grant=auto_grant, migrated=True)) as conn:
        made_by = [path.read_text(encoding="utf-8") for path in FILES.glob("*.sql")]
        routines = [name for text in made_by for name in CREATED.findall(text)]
        assert "public.enqueue_deletion_jobs" in routines
        assert not rows(conn, OPEN_ROUTINES, (list(API_ROLES), routines))
        assert not rows(conn, OPEN_TABLES, (list(API_ROLES),))
        closed = (
            "select r.role from unnest(%s::text[]) r(role) where has_schema_privilege(r.role, 'lifecycle', 'usage')"
        )
        assert not rows(conn, closed, (list(API_ROLES),))
        assert value(conn, "select count(*) from lifecycle.erasure_steps") > 0
