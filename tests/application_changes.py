"""What an application's next migration may do to its own objects, statement by statement, and how each ends.

Every statement runs in a transaction that is rolled back, so that thousands can be tried on one database. What is
compared between a database that was adopted and its twin that was not: whether the statement runs, the SQLSTATE of its
error, and which relations, columns and functions of the application are left afterwards.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]

TABLES: Final = """
select c.relname::text, array_agg(a.attname::text order by a.attnum)
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
 group by 1 order by 1
"""
VIEWS: Final = """
select c.relname::text, c.relkind::text, pg_get_viewdef(c.oid)
  from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('v', 'm') order by 1
"""
FUNCTIONS: Final = """
select p.oid::regprocedure::text, pg_get_functiondef(p.oid) from pg_proc p
 where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' order by 1
"""
ENUMS: Final = """
select t.typname::text from pg_type t where t.typnamespace = 'public'::regnamespace and t.typtype = 'e' order by 1
"""
# What is left of the application: names of ours are told apart by the twin that has none.
LEFT: Final = """
select 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
union all
select 'function ' || p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'public'::regnamespace
union all
select 'policy ' || p.polname || ' on ' || p.polrelid::regclass::text from pg_policy p
  join pg_class c on c.oid = p.polrelid and c.relnamespace = 'public'::regnamespace
 where not starts_with(p.polname, 'lifecycle: ')
"""


@dataclass(frozen=True)
class Change:
    """A statement, of a kind, about an object."""

    kind: str
    subject: str
    statement: sql.Composed


@dataclass(frozen=True)
class Outcome:
    """The SQLSTATE of the error, or what is gone and what is new of the application's objects."""

    error: str | None
    gone: frozenset[str] = frozenset()
    new: frozenset[str] = frozenset()


def changes(conn: Connection) -> Iterator[Change]:
    """All statements, for every table, column, view, function and enum of schema public of this database."""
    for table, columns in conn.execute(TABLES).fetchall():
        yield from _table_changes(table, columns)
    for view, kind, definition in conn.execute(VIEWS).fetchall():
        yield from _view_changes(view, kind, definition)
    for signature, definition in conn.execute(FUNCTIONS).fetchall():
        yield Change("replace function", signature, _verbatim(definition))
        yield Change("drop function", signature, _verbatim(f"drop function {signature}"))
        yield Change("drop function cascade", signature, _verbatim(f"drop function {signature} cascade"))
    for (enum,) in conn.execute(ENUMS).fetchall():
        yield Change(
            "add enum value", enum, sql.SQL("alter type public.{} add value 'later'").format(sql.Identifier(enum))
        )
        yield Change("rename enum", enum, sql.SQL("alter type public.{} rename to later").format(sql.Identifier(enum)))


def _verbatim(statement: str) -> sql.Composed:
    return sql.Composed([sql.SQL(statement)])


def _table_changes(table: str, columns: list[str]) -> Iterator[Change]:
    name = sql.Identifier("public", table)
    plain: dict[str, str] = {
        "add column": "alter table {t} add column later jsonb not null default '{{}}'",
        "rename table": "alter table {t} rename to later",
        "drop table": "drop table {t}",
        "drop table cascade": "drop table {t} cascade",
        "truncate": "truncate {t}",
        "truncate cascade": "truncate {t} cascade",
        "add foreign key": "alter table {t} add column later_id uuid references public.accounts (id) on delete cascade",
        "add check": "alter table {t} add constraint later check (true)",
        "create index": "create index later_idx on {t} ((1))",
        "disable row security": "alter table {t} disable row level security",
        "enable row security": "alter table {t} enable row level security",
        "create policy": "create policy later on {t} for select using (true)",
        "create trigger": "create trigger later before insert on {t} for each row"
        " execute function public.touch_updated_at()",
        "grant": "grant select on {t} to service_role",
        "comment": "comment on table {t} is 'later'",
    }
    for kind, statement in plain.items():
        yield Change(kind, table, sql.SQL(statement).format(t=name))
    for column in columns:
        each = {
            "drop column": "alter table {t} drop column {c}",
            "drop column cascade": "alter table {t} drop column {c} cascade",
            "rename column": "alter table {t} rename column {c} to later",
            "retype column": "alter table {t} alter column {c} type text using {c}::text",
            "drop not null": "alter table {t} alter column {c} drop not null",
            "set default": "alter table {t} alter column {c} set default null",
            "index column": "create index later_idx on {t} ({c})",
        }
        for kind, statement in each.items():
            made = sql.SQL(statement).format(t=name, c=sql.Identifier(column))
            yield Change(kind, f"{table}.{column}", made)


def _view_changes(view: str, kind: str, definition: str) -> Iterator[Change]:
    name = sql.Identifier("public", view)
    word = sql.SQL("view" if kind == "v" else "materialized view")
    if kind == "v":
        again = sql.SQL("create or replace view {} as ").format(name) + _verbatim(definition)
        yield Change("replace view", view, again)
    for told, statement in {
        "drop view": "drop {k} {v}",
        "drop view cascade": "drop {k} {v} cascade",
        "rename view": "alter {k} {v} rename to later",
        "refresh": "refresh materialized view {v}" if kind == "m" else "select from {v} limit 1",
    }.items():
        yield Change(told, view, sql.SQL(statement).format(k=word, v=name))


def outcome(conn: Connection, change: Change, before: frozenset[str]) -> Outcome:
    """What the statement does here, `before` given; the transaction is rolled back."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute("set local statement_timeout = '30s'")
            conn.execute(change.statement)
            after = left(conn)
            return Outcome(None, before - after, after - before)
    except psycopg.Error as error:
        return Outcome(error.sqlstate)


def left(conn: Connection) -> frozenset[str]:
    """The application's columns, functions and policies that there are."""
    return frozenset(row[0] for row in conn.execute(LEFT).fetchall())
