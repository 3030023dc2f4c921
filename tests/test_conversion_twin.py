"""What migrations are made of, on every converted table and on a twin without us: the same outcome, but for a list."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.application import Application
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.changed import CHANGED_STATEMENTS, ChangedStatement, changed_statements
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.months import add_months, month_start
from orchestration.cli.main import app as main
from resources.variables import URL_VARIABLE
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, EVENT_TABLES
from tests.partitioned import BEHAVIOR, BUSINESS, insert_events

# What other capabilities make of the views has tests of its own.
PARTITIONS_ONLY = Application(database=APPLICATION.database, event_tables=APPLICATION.event_table_file)
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
    "a foreign key that rows break": "alter table {table} add constraint own foreign key ({key})"
    " references accounts (id)",
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
COLUMNS = {BEHAVIOR.name: ("language", "page_url"), "business_metrics_events": ("page_url", "session_id")}
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
    # Printed and read again, a constant of a later UNION branch is named after its type.
    "views": "select c.oid::regclass::text, replace(pg_get_viewdef(c.oid), '::text AS text', '::text')"
    " from pg_class c where c.relkind in ('v', 'm')"
    " and c.relnamespace = 'public'::regnamespace order by 1",
    "constraints": "select k.conname, k.conrelid::regclass::text, pg_get_constraintdef(k.oid), k.convalidated"
    " from pg_constraint k where k.contype in ('c', 'f') and k.connamespace = 'public'::regnamespace"
    " and k.conrelid::regclass::text !~ '^event_partitions' order by 2, 1",
    "indexes": "select i.indrelid::regclass::text, replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')"
    " from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'public'::regnamespace"
    " and not i.indisprimary order by 1, 2",
    "triggers": "select t.tgrelid::regclass::text, pg_get_triggerdef(t.oid), t.tgenabled::text from pg_trigger t"
    " where not t.tgisinternal and t.tgrelid::regclass::text !~ '^event_partitions' order by 1, 2",
    "access": "select c.relname, array(select unnest(c.relacl)::text order by 1), c.relrowsecurity,"
    " c.relreplident::text, array(select polname::text from pg_policy where polrelid = c.oid order by 1),"
    " obj_description(c.oid, 'pg_class')"
    " from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') order by 1",
}
ROTATION = "select table_name, outcome, error from rotate_event_partitions(now(), %s)"


@dataclass(frozen=True)
class Twins:
    """Equal rows, one database converted and one that has never heard of us."""

    converted: Connection
    plain: Connection
    converted_url: str


@pytest.fixture
def twins(make_application_db: MakeApplicationDb, server: Server, now: datetime) -> Iterator[Twins]:
    url = make_application_db(rows=False)
    with connect(url) as plain:
        plain.execute("insert into accounts (id) select gen_random_uuid() from generate_series(1, 3)")
        for table in EVENT_TABLES:
            for back in range(3):
                insert_events(plain, table, add_months(month_start(now), -back), session="twin", rows=2)
    plain_name = url.rsplit("/", 1)[1]
    converted_url = clone_database(server, plain_name, f"{plain_name}_converted")
    upgrade(converted_url, PARTITIONS_ONLY)
    for table in EVENT_TABLES:
        convert_table(converted_url, table, now=now, progress=lambda _message, _fraction: None)
    with connect(converted_url) as converted, connect(url) as plain:
        yield Twins(converted, plain, converted_url)
    drop_database(server, f"{plain_name}_converted")


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


@contextmanager
def rolled_back(twins: Twins) -> Iterator[None]:
    with twins.converted.transaction(force_rollback=True), twins.plain.transaction(force_rollback=True):
        yield


def outcome(conn: Connection, statements: str) -> str | None:
    """The SQLSTATE with which the statements fail; None when they work. `\\gexec` is psql's: run what comes back."""
    try:
        with nullcontext() if "concurrently" in statements or "cluster" in statements else conn.transaction():
            if statements.startswith("copy"):
                with conn.cursor().copy(statements.encode()) as source:
                    list(source)
            elif statements.endswith(" \\gexec"):
                for (made,) in rows(conn, statements.removesuffix(" \\gexec").replace("%", "%%"), {}):
                    conn.execute(made.encode())
            else:
                conn.execute(statements.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None


def state(conn: Connection, table: Any) -> set[tuple[str, str]]:
    """All that a migration can leave behind, and the rows where they still are."""
    found = {(name, repr(row)) for name, query in STATE.items() for row in rows(conn, query)}
    for place in (table.qualified_name, "public.renamed", f"elsewhere.{table.name}"):
        if value(conn, "select to_regclass(%s)", (place,)):
            query = f"select count(*), sum(hashtextextended(to_jsonb(t)::text, 0)) from {place} t"
            found.add(("rows", repr(rows(conn, query))))
    return found


def outside_of_transactions(changed: ChangedStatement) -> bool:
    return changed.what.startswith("CLUSTER") or "CONCURRENTLY" in changed.what


@pytest.mark.one_server
@pytest.mark.timeout(180)
@pytest.mark.every_version
def test_the_same_outcome_as_without_us(twins: Twins, subtests: pytest.Subtests) -> None:
    for table in EVENT_TABLES:
        known = names(twins.plain, table)
        for case, template in MIGRATIONS.items():
            with subtests.test(case=case, table=table.name), rolled_back(twins):
                expected = outcome(twins.plain, template.format(**known))
                assert outcome(twins.converted, template.format(**known)) == expected
                assert state(twins.converted, table) ^ state(twins.plain, table) == set()
                gone = case in GONE and expected is None
                told = rows(twins.converted, ROTATION, (None if gone else table.qualified_name,))
                failed = {name: error for name, result, error in told if result == "failure"}
                if gone:
                    assert list(failed) == [table.qualified_name]
                    assert GONE[case] in failed[table.qualified_name]
                else:
                    assert failed == {}


def test_the_list_of_what_postgresql_refuses(twins: Twins, subtests: pytest.Subtests) -> None:
    """Each entry fails on a partitioned table alone, and what the list says instead works there."""
    known = names(twins.plain, BUSINESS)
    refused = changed_statements(twins.converted.info.server_version // 10_000)
    for changed in sorted(CHANGED_STATEMENTS, key=outside_of_transactions):
        # These come last and stay.
        alone = nullcontext() if outside_of_transactions(changed) else rolled_back(twins)
        with subtests.test(changed=changed.what), alone:
            for conn in (twins.converted, twins.plain):
                # Every id is an account: the foreign key of the list holds.
                conn.execute("insert into accounts (id) select id from business_metrics_events on conflict do nothing")
            statement = changed.statement.format(**known)
            assert outcome(twins.plain, statement) is None
            assert outcome(twins.converted, statement) in (changed.errors if changed in refused else (None,))
            for instead in changed.instead if changed in refused else ():
                assert outcome(twins.converted, instead.format(**known)) is None, instead
            if changed.command:
                words = changed.command.format(**known | {"index": "by_command"}).split()
                told = CliRunner().invoke(main, words[1:], env={URL_VARIABLE: twins.converted_url})
                assert told.exit_code == 0, told.output
    for name in ("an_index", "by_command"):
        assert value(twins.converted, "select indisvalid from pg_index where indexrelid = %s::regclass", (name,))
