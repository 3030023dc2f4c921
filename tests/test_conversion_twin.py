"""What migrations are made of, on every converted table and on a twin without us: the same outcome, but for a list."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from lifecycle.partitions.changed import CHANGED_STATEMENTS
from tests.conftest import MakeApplicationDb
from tests.declared import EVENT_TABLES
from tests.partitioned import BEHAVIOR, MakePartitionedDb

pytest_plugins = ("tests.partitioned_fixtures",)

# Each is one or several statements of a migration. {column} is a plain column, {seen} one that views read.
MIGRATIONS = {
    "add a column": "alter table {table} add column campaign text not null default 'none'",
    "add a column that rows lack": "alter table {table} add column campaign text not null",
    "add a generated column": "alter table {table} add column twice text generated always as ({column} || 'x') stored",
    "drop a column": "alter table {table} drop column {column} cascade",
    "drop a column that views read": "alter table {table} drop column {seen}",
    "drop it with CASCADE": "alter table {table} drop column {seen} cascade",
    "rename a column": "alter table {table} rename column {column} to renamed",
    "rename the time column": "alter table {table} rename column {time} to happened_at",
    "retype a column": "alter table {table} alter column {column} type varchar(4000)",
    "retype a column that views read": "alter table {table} alter column {seen} type varchar(4000)",
    "retype the key": "alter table {table} alter column {key} drop default, alter column {key} type text",
    "change a default": "alter table {table} alter column {column} set default 'x'",
    "set NOT NULL": "alter table {table} alter column {column} set not null",
    "drop NOT NULL": "alter table {table} alter column {seen} drop not null",
    "rename the table": "alter table {table} rename to renamed",
    "move the table": "create schema elsewhere; alter table {table} set schema elsewhere",
    "drop the table": "drop table {table}",
    "drop it with its views": "drop table {table} cascade",
    "a foreign key": "alter table {table} add column owner uuid references accounts (id) on delete cascade",
    "a foreign key that rows break": "alter table {table} add constraint own foreign key ({key}) references accounts (id)",
    "a type and a value": "create type mood as enum ('good'); alter table {table} add column mood mood default 'good';"
    "alter type mood add value 'bad'",
    "an index": "create index an_index on {table} ({column})",
    "a unique index with the time": "create unique index an_index on {table} ({key}, {time})",
    "drop an index": "drop index {schema}.{own_index}",
    "a check": "alter table {table} add constraint short check (length({column}) < 9000)",
    "a check, valid later": "alter table {table} add constraint short check (length({column}) < 9000) not valid;"
    "alter table {table} validate constraint short",
    "a view": "create view a_view as select {column}, count(*) from {table} group by 1;"
    "create or replace view a_view as select {column}, count(*) from {table} where {time} is not null group by 1;"
    "drop view a_view",
    "a materialized view": "create materialized view a_view as select * from {table}; refresh materialized view a_view",
    "a policy": "alter table {table} enable row level security; create policy own on {table} using (false)",
    "grants": "revoke all on {table} from authenticated; grant select ({column}) on {table} to authenticated",
    "a trigger": "create function note() returns trigger language plpgsql as 'begin return new; end';"
    "create trigger note before insert or update on {table} for each row execute function note();"
    "alter table {table} disable trigger user",
    "a comment": "comment on table {table} is 'events'; comment on column {table}.{column} is 'text'",
    "replica identity": "alter table {table} replica identity full",
    "truncate": "truncate {table}",
    "rows to another month": "update {table} set {time} = {time} - interval '40 days'",
    "rows by key": "delete from {table} where {key} in (select {key} from {table} order by {key} limit 2)",
}
# After these the declared table or its time column is not there any more: rotation says so and touches nothing.
GONE = {
    "rename the table": "the declared table does not exist",
    "move the table": "the declared table does not exist",
    "drop it with its views": "the declared table does not exist",
    "drop the table": "the declared table does not exist",
    "rename the time column": "is not partitioned by its declared time column",
}
COLUMNS = {BEHAVIOR.name: ("language", "page_url"), "business_metrics_events": ("language", "page_url")}
OTHER_COLUMNS = ("session_id", "event_type")
STATE = {
    "relations": "select c.oid::regclass::text from pg_class c where c.relnamespace::regnamespace::text in"
    " ('public', 'elsewhere') and c.relkind in ('r', 'p', 'v', 'm') order by 1",
    "columns": "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated::text,"
    " pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)"
    " from pg_attribute a join pg_class c on c.oid = a.attrelid"
    " left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum"
    " where c.relnamespace::regnamespace::text in ('public', 'elsewhere') and c.relkind in ('r', 'p', 'v', 'm')"
    " and a.attnum > 0 and not a.attisdropped order by 1, 2",
    "views": "select c.oid::regclass::text, pg_get_viewdef(c.oid) from pg_class c where c.relkind in ('v', 'm')"
    " and c.relnamespace = 'public'::regnamespace order by 1",
    "constraints": "select k.conname, k.conrelid::regclass::text, pg_get_constraintdef(k.oid), k.convalidated"
    " from pg_constraint k where k.contype in ('c', 'f') and k.connamespace = 'public'::regnamespace"
    " and k.conrelid::regclass::text !~ '^event_partitions' order by 2, 1",
    "indexes": "select i.indrelid::regclass::text, replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')"
    " from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'public'::regnamespace"
    " and not i.indisprimary order by 1, 2",
    "triggers": "select t.tgrelid::regclass::text, pg_get_triggerdef(t.oid), t.tgenabled::text from pg_trigger t"
    " where not t.tgisinternal and t.tgrelid::regclass::text !~ '^event_partitions' order by 1, 2",
    "access": "select c.relname, array(select unnest(c.relacl)::text order by 1), c.relrowsecurity, c.relreplident::text,"
    " array(select polname::text from pg_policy where polrelid = c.oid order by 1), obj_description(c.oid, 'pg_class')"
    " from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') order by 1",
}
ROTATION = "select table_name, outcome, error from rotate_event_partitions()"


@dataclass(frozen=True)
class Twins:
    """Equal rows, one database converted and one that has never heard of us."""

    converted: Connection
    plain: Connection


@pytest.fixture
def twins(make_partitioned_db: MakePartitionedDb, make_application_db: MakeApplicationDb) -> Iterator[Twins]:
    with connect(make_partitioned_db()) as converted, connect(make_application_db(rows=False)) as plain:
        for name in ("accounts", *(table.name for table in EVENT_TABLES)):
            read = sql.SQL("copy (select * from {}) to stdout").format(sql.Identifier(name))
            write = sql.SQL("copy {} from stdin").format(sql.Identifier(name))
            with converted.cursor().copy(read) as source, plain.cursor().copy(write) as target:
                for data in source:
                    target.write(data)
        yield Twins(converted, plain)


def names(conn: Connection, table: Any) -> dict[str, str]:
    """What stands for the braces in a statement about this table."""
    column, seen = COLUMNS.get(table.name, OTHER_COLUMNS)
    own_index = value(
        conn,
        "select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid"
        " where i.indrelid = %s::regclass and not i.indisunique order by 1",
        (table.qualified_name,),
    )
    return {
        "table": table.qualified_name,
        "schema": table.schema,
        "time": sql.Identifier(table.time_column).as_string(conn),
        "key": "id",
        "column": column,
        "seen": seen,
        "index": "an_index",
        "own_index": own_index,
        "table_of_keys": "accounts (id)",
    }


def outcome(conn: Connection, statements: str) -> str | None:
    """The SQLSTATE with which the statements fail; None when they work."""
    try:
        with conn.transaction():
            conn.execute(statements.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None


def state(conn: Connection, table: Any) -> dict[str, Any]:
    """All that a migration can leave behind, and the rows where they still are."""
    found: dict[str, Any] = {name: rows(conn, query) for name, query in STATE.items()}
    for place in (table.qualified_name, "public.renamed", f"elsewhere.{table.name}"):
        if value(conn, "select to_regclass(%s)", (place,)):
            query = f"select count(*), sum(hashtextextended(to_jsonb(t)::text, 0)) from {place} t"
            found["rows"] = rows(conn, query)
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("table", EVENT_TABLES, ids=lambda table: table.name)
def test_the_same_outcome_as_without_us(twins: Twins, table: Any, subtests: pytest.Subtests) -> None:
    known = names(twins.plain, table)
    for case, template in MIGRATIONS.items():
        statements = template.format(**known)
        with (
            subtests.test(case=case),
            twins.converted.transaction(force_rollback=True),
            twins.plain.transaction(force_rollback=True),
        ):
            found, expected = outcome(twins.converted, statements), outcome(twins.plain, statements)
            assert found == expected
            after, wanted = state(twins.converted, table), state(twins.plain, table)
            assert {name: after[name] for name in after if after[name] != wanted.get(name)} == {}
            problems = {name: error for name, result, error in rows(twins.converted, ROTATION) if result == "failure"}
            if case in GONE and expected is None:
                assert list(problems) == [table.qualified_name]
                assert GONE[case] in problems[table.qualified_name]
            else:
                assert problems == {}


@pytest.mark.parametrize("changed", CHANGED_STATEMENTS, ids=lambda changed: changed.what)
def test_the_list_of_what_postgresql_refuses(twins: Twins, changed: Any) -> None:
    """Each entry fails on a partitioned table alone, and what the list says instead works there."""
    known = names(twins.plain, BEHAVIOR)
    for conn in (twins.converted, twins.plain):
        # Every id is an account: the foreign key that the list adds holds.
        conn.execute("insert into accounts (id) select id from user_behavior_events on conflict do nothing")
    statement = changed.statement.format(**known)
    refused = changed.until is None or twins.converted.info.server_version // 10_000 < changed.until
    assert run(twins.converted, statement) == (changed.error if refused else None)
    assert run(twins.plain, statement) is None
    if refused:
        for instead in changed.instead:
            assert run(twins.converted, instead.format_map(known)) is None, instead
    if "CONCURRENTLY" in changed.what and changed.what.startswith("CREATE"):
        assert value(twins.converted, "select indisvalid from pg_index where indexrelid = 'an_index'::regclass")


def run(conn: Connection, statement: str) -> str | None:
    """As psql would: `\\gexec` runs what the query returns."""
    try:
        if statement.endswith(" \\gexec"):
            for (made,) in rows(conn, statement.removesuffix(" \\gexec")):
                conn.execute(made.encode())
        elif statement.startswith("copy"):
            with conn.cursor().copy(statement.encode()) as source:
                list(source)
        else:
            conn.execute(statement.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None
