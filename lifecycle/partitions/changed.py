"""Statements that PostgreSQL refuses on a partitioned table alone, each with what to write instead.

The whole list: a test runs these and all others that migrations are made of on a converted table and on a plain one.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class ChangedStatement:
    """One kind of statement. In `statement` and `instead` {table}, {time}, {key}, {column} and {index} stand for names.

    `errors` are the SQLSTATEs, which differ by version. `instead` is empty where nothing but the way back
    (docs/how-to/undo.md) helps. From PostgreSQL `until` on it works again.
    """

    what: str
    statement: str
    errors: tuple[str, ...]
    instead: tuple[str, ...] = ()
    until: int | None = None


INDEX_ON_EACH_PARTITION: Final = (
    "create index {index} on only {table} ({column})",
    "select format('create index concurrently %I on %s ({column})', 'index_' || c.oid, c.oid::regclass)"
    " from pg_inherits h join pg_class c on c.oid = h.inhrelid where h.inhparent = '{table}'::regclass \\gexec",
    "select format('alter index {schema}.{index} attach partition %I.%I', n.nspname, 'index_' || c.oid)"
    " from pg_inherits h join pg_class c on c.oid = h.inhrelid join pg_namespace n on n.oid = c.relnamespace"
    " where h.inhparent = '{table}'::regclass \\gexec",
)

CHANGED_STATEMENTS: Final = (
    ChangedStatement(
        "CREATE INDEX CONCURRENTLY",
        "create index concurrently {index} on {table} ({column})",
        ("0A000",),
        INDEX_ON_EACH_PARTITION,
    ),
    ChangedStatement(
        "DROP INDEX CONCURRENTLY",
        "drop index concurrently {schema}.{own_index}",
        ("0A000",),
        ("drop index {schema}.{own_index}",),
    ),
    ChangedStatement(
        "another type of the time column", "alter table {table} alter column {time} type text", ("42P16",)
    ),
    ChangedStatement("DROP of the time column", "alter table {table} drop column {time} cascade", ("42P16",)),
    ChangedStatement(
        "DROP NOT NULL of the time column", "alter table {table} alter column {time} drop not null", ("42P16",)
    ),
    ChangedStatement(
        "UNIQUE without the time column",
        "alter table {table} add constraint once unique ({key}, {column})",
        ("0A000",),
        ("alter table {table} add constraint once unique ({key}, {column}, {time})",),
    ),
    ChangedStatement(
        "a foreign key that points at the old key alone",
        "create table {schema}.notes (event uuid references {table} ({key}))",
        ("42830",),
        (
            "create table {schema}.notes (event uuid, event_time timestamptz,"
            " foreign key (event, event_time) references {table} ({key}, {time}))",
        ),
    ),
    ChangedStatement(
        "ON CONFLICT of the old key alone",
        "insert into {table} select * from {table} on conflict ({key}) do nothing",
        ("42P10",),
        ("insert into {table} select * from {table} on conflict ({key}, {time}) do nothing",),
    ),
    ChangedStatement(
        "FOREIGN KEY ... NOT VALID",
        "alter table {table} add constraint own foreign key ({key}) references {table_of_keys} not valid",
        ("42809",),
        ("alter table {table} add constraint own foreign key ({key}) references {table_of_keys}",),
        until=18,
    ),
    ChangedStatement(
        "ALTER TABLE ... SET (storage parameter)",
        "alter table {table} set (fillfactor = 90)",
        ("22023", "42809"),
        (
            "select format('alter table %s set (fillfactor = 90)', inhrelid::regclass) from pg_inherits"
            " where inhparent = '{table}'::regclass \\gexec",
        ),
    ),
    ChangedStatement(
        "COPY table TO", "copy {table} to stdout", ("42809",), ("copy (select * from {table}) to stdout",)
    ),
)


def changed_statements(server_version: int) -> tuple[ChangedStatement, ...]:
    """Those that this PostgreSQL (its major version) refuses."""
    return tuple(each for each in CHANGED_STATEMENTS if each.until is None or server_version < each.until)
