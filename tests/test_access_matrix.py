"""Every role, every object, every verb: each statement is run as the API runs it, and its outcome is written here.

Nothing here is derived from access.yaml. An object without an expectation fails the test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.access_expectations import EVENTS, RELATIONS, ROUTINES, SERVICE_ROUTINES
from tests.access_world import (
    AGAINST_POLICY,
    BEN,
    CALLERS,
    CONFLICT,
    DENIED,
    IMPOSSIBLE,
    Caller,
    add_people,
    as_json,
    attempt,
    columns,
    insert_statement,
    own_count,
    sample_row,
)
from tests.conftest import AsRole, MakeApplicationDb
from tests.partitioned import rotate_all

pytest_plugins = ("tests.partitioned_fixtures",)

VERBS = ("SELECT", "INSERT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")
LIVE = """
select n.nspname::text, c.relname::text, c.relkind::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any (%s) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') order by 1, 2
"""
LIVE_ROUTINES = """
select n.nspname::text, p.proname::text, p.oid::regprocedure::text, p.prokind::text,
       array(select format_type(t, null) from unnest(p.proargtypes) t)
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = any (%s) order by 1, 3
"""
OURS = ["lifecycle", "event_partitions"]


@dataclass(frozen=True)
class World:
    """A database with people, partitions of months to come, and fresh statistics."""

    url: str
    auto_grant: bool


@pytest.fixture(scope="module", params=[True, False], ids=["auto_grant", "explicit_grants"])
def world(
    request: pytest.FixtureRequest, server: Server, partitioned_template: Callable[[bool], str]
) -> Iterator[World]:
    name = f"matrix_{'auto' if request.param else 'explicit'}"
    url = clone_database(server, partitioned_template(request.param), name)
    with connect(url) as conn:
        add_people(conn)
        ahead = value(conn, "select now() + interval '2 months'")
        assert {action.outcome for action in rotate_all(conn, ahead)} == {"success"}
        conn.execute("select refresh_derived_statistics()")
        conn.execute("select refresh_analytics_hourly()")
    yield World(url, request.param)
    drop_database(server, name)


@pytest.fixture
def owner(world: World) -> Iterator[Connection]:
    with connect(world.url) as conn:
        yield conn


def statements(
    conn: Connection, schema: str, name: str, caller: Caller
) -> list[tuple[sql.SQL | sql.Composed, dict[str, object]]]:
    """One per letter of an expectation: the second INSERT is in the name of Ben."""
    target, written = sql.Identifier(schema, name), columns(conn, schema, name)
    column = sql.Identifier(written[-1] if written else "nothing")
    inserting = insert_statement(schema, name, written)
    return [
        (sql.SQL("select from {}").format(target), {}),
        (inserting, as_json(sample_row(conn, schema, name, caller.person))),
        (inserting, as_json(sample_row(conn, schema, name, BEN))),
        (sql.SQL("update {} set {} = {}").format(target, column, column), {}),
        (sql.SQL("delete from {}").format(target), {}),
        (sql.SQL("truncate {}").format(target), {}),
    ]


def is_as_expected(conn: Connection, name: str, caller: Caller, verb: str, letter: str, outcome: int | str) -> bool:
    if letter == ".":
        # Of a view that cannot be written, PostgreSQL says that before it asks for a privilege.
        asked = (caller.role, f"public.{name}", verb)
        may = outcome == IMPOSSIBLE and value(conn, "select has_table_privilege(%s, %s, %s)", asked)
        return outcome == DENIED or (outcome == IMPOSSIBLE and not may)
    if letter == "!":
        return outcome == IMPOSSIBLE
    if letter == "x":
        return outcome == AGAINST_POLICY
    if letter == "y":
        return outcome in (1, CONFLICT, IMPOSSIBLE if verb == "TRUNCATE" else 1) or (
            verb == "TRUNCATE" and outcome == -1
        )
    every = int(value(conn, f"select count(*) from public.{name}"))
    number = {"0": 0, "o": own_count(conn, name, caller.person) if letter == "o" else 0, "a": every}[letter]
    if letter == "o":
        assert 0 < number < every, f"{name}: the test has no rows to tell own ones from others by"
    return outcome == number or (outcome == CONFLICT and number > 0)


@pytest.mark.parametrize("who", list(CALLERS))
def test_relations_of_public(world: World, owner: Connection, as_role: AsRole, who: str) -> None:
    live = {name: kind for _, name, kind in rows(owner, LIVE, (["public"],))}
    assert live.keys() == RELATIONS.keys(), "say in tests/access_expectations.py who may do what with it"
    caller, wrong = CALLERS[who], []
    prepared = {name: statements(owner, "public", name, caller) for name in live}
    with as_role(world.url, caller.role, caller.claims) as conn:
        for name, expected in RELATIONS.items():
            letters = expected(who, world.auto_grant)
            assert len(letters) == len(VERBS)
            for verb, letter, (statement, params) in zip(VERBS, letters, prepared[name], strict=True):
                outcome = attempt(conn, statement, params)
                if not is_as_expected(owner, name, caller, verb, letter, outcome):
                    wrong.append(f"{verb} {name}: expected {letter}, and it was {outcome}")
    assert wrong == []


@pytest.mark.parametrize("opened", [False, True], ids=["closed", "schemas opened by mistake"])
@pytest.mark.parametrize("who", list(CALLERS))
def test_relations_of_ours(world: World, owner: Connection, as_role: AsRole, who: str, opened: bool) -> None:
    """Partitions too, also those of months to come; and each is closed by itself, not by its schema alone."""
    live = rows(owner, LIVE, (OURS,))
    assert len([name for schema, name, _ in live if schema == "event_partitions"]) > 20
    months = [f"{table}_{value(owner, MONTH_AHEAD)}" for table in EVENTS]
    assert set(months) <= {name for _, name, _ in live}
    caller, wrong = CALLERS[who], []
    prepared = {(schema, name): statements(owner, schema, name, caller) for schema, name, kind in live if kind != "S"}
    grant = sql.SQL("{} usage on schema lifecycle, event_partitions {} {}")
    role = sql.Identifier(caller.role)
    if opened:
        owner.execute(grant.format(sql.SQL("grant"), sql.SQL("to"), role))
    try:
        with as_role(world.url, caller.role, caller.claims) as conn:
            for (schema, name), made in prepared.items():
                for verb, (statement, params) in zip(VERBS, made, strict=True):
                    outcome = attempt(conn, statement, params)
                    if outcome not in (DENIED, IMPOSSIBLE) or (verb == "SELECT" and outcome != DENIED):
                        wrong.append(f"{verb} {schema}.{name}: {outcome}")
            for schema, name, kind in live:
                if kind == "S":
                    using = sql.SQL("select nextval({})").format(sql.Literal(f"{schema}.{name}"))
                    wrong += [name] if attempt(conn, using) != DENIED else []
    finally:
        owner.execute(grant.format(sql.SQL("revoke"), sql.SQL("from"), role))
    assert wrong == []


MONTH_AHEAD = "select to_char(now() at time zone 'UTC' + interval '4 months', 'YYYY_MM')"


@pytest.mark.parametrize("who", [name for name in CALLERS if name != "service"])
def test_routines(world: World, owner: Connection, as_role: AsRole, who: str) -> None:
    """Called with nulls: whatever else comes of it, it is denied or it is not."""
    live = rows(owner, LIVE_ROUTINES, (["public", "private", *OURS],))
    named = {f"{schema}.{name}" for schema, name, *_ in live if schema not in OURS}
    assert named == ROUTINES.keys(), "say in tests/access_expectations.py who may call it"
    caller = CALLERS[who]
    with as_role(world.url, caller.role, caller.claims) as conn:
        reached = {
            f"{schema}.{name}"
            for schema, name, _, kind, types in live
            if is_reached(conn, sql.Identifier(schema, name), kind, types)
        }
    assert reached == {name for name, callers in ROUTINES.items() if who in callers}


def is_reached(conn: Connection, name: sql.Identifier, kind: str, types: list[str]) -> bool:
    nulls = sql.SQL(", ").join(sql.SQL(f"null::{text}") for text in types)
    calling = sql.SQL("call {}({})" if kind == "p" else "select {}({})").format(name, nulls)
    try:
        return attempt(conn, calling) != DENIED
    except Exception:
        return True


def test_routines_of_the_back_end(owner: Connection) -> None:
    may = (
        "select has_schema_privilege('service_role', %s, 'usage')"
        " and has_function_privilege('service_role', %s, 'execute')"
    )
    live = rows(owner, LIVE_ROUTINES, (["public", "private", *OURS],))
    found = {f"{schema}.{name}" for schema, name, signature, *_ in live if value(owner, may, (schema, signature))}
    assert found == SERVICE_ROUTINES


PRIVILEGES = """
select c.oid::regclass::text, c.relowner::regrole::text, r.rolname::text,
       array(select v from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) v
              where has_table_privilege(r.oid, c.oid, v))
  from pg_class c cross join pg_roles r
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
   and r.rolname in ('service_role', 'postgres', 'authenticator')
"""
EXECUTES = """
select p.oid::regprocedure::text, p.proowner::regrole::text, r.rolname::text,
       has_function_privilege(r.oid, p.oid, 'EXECUTE')
  from pg_proc p cross join pg_roles r
 where p.pronamespace = 'public'::regnamespace and r.rolname in ('service_role', 'postgres')
"""


def test_the_back_end_and_the_owner_may_what_they_could(
    world: World, owner: Connection, make_application_db: MakeApplicationDb
) -> None:
    with connect(make_application_db(rows=False, auto_grant=world.auto_grant)) as untouched:
        for query in (PRIVILEGES, EXECUTES):
            assert set(map(repr, rows(untouched, query))) <= set(map(repr, rows(owner, query)))
