"""Statements that PostgreSQL refuses on a partitioned table alone, each with what to write instead.

The whole list: a test runs these and all others that migrations are made of on a converted table and on a plain one.
"""

from dataclasses import dataclass
from typing import Final

from lifecycle.language import translatable


@dataclass(frozen=True)
class ChangedStatement:
    """One kind of statement. In its texts {table}, {time}, {key}, {column} and {index} stand for names.

    `errors` are the SQLSTATEs, which differ by version. `instead` is empty where nothing but the way back
    (docs/how-to/undo.md) helps. `command` does the same without psql. From PostgreSQL `until` on it works again.
    """

    what: str
    statement: str
    errors: tuple[str, ...]
    instead: tuple[str, ...] = ()
    until: int | None = None
    command: str = ""


# What `lifecycle index` does, for somebody who has psql only.
INDEX_ON_EACH_PARTITION: Final = (
    "create index {index} on only {table} ({column})",
    "select format('create index concurrently %I on %s ({column})', 'index_' || c.oid, c.oid::regclass)"
    " from pg_inherits h join pg_class c on c.oid = h.inhrelid where h.inhparent = '{table}'::regclass \\gexec",
    "select format('alter index {schema}.{index} attach partition %I.%I', n.nspname, 'index_' || c.oid)"
    " from pg_inherits h join pg_class c on c.oid = h.inhrelid join pg_namespace n on n.oid = c.relnamespace"
    " where h.inhparent = '{table}'::regclass \\gexec",
)

NOTE: Final = "create function {schema}.note() returns trigger language plpgsql as 'begin return null; end'; "

CHANGED_STATEMENTS: Final = (
    ChangedStatement(
        "CREATE INDEX CONCURRENTLY",
        "create index concurrently {index} on {table} ({column})",
        ("0A000",),
        INDEX_ON_EACH_PARTITION,
        command="lifecycle index {table} {column} --name {index}",
    ),
    ChangedStatement(
        "CLUSTER ON",
        "alter table {table} cluster on {own_index}",
        ("0A000", "42809"),
        ("cluster {table} using {own_index}",),
    ),
    ChangedStatement(
        "DROP INDEX CONCURRENTLY",
        "drop index concurrently {schema}.{own_index}",
        ("0A000",),
        ("drop index {schema}.{own_index}",),
    ),
    ChangedStatement(
        translatable("another type of the time column"), "alter table {table} alter column {time} type text", ("42P16",)
    ),
    ChangedStatement(
        translatable("DROP of the time column"), "alter table {table} drop column {time} cascade", ("42P16",)
    ),
    ChangedStatement(
        translatable("DROP NOT NULL of the time column"),
        "alter table {table} alter column {time} drop not null",
        ("42P16",),
    ),
    ChangedStatement(
        translatable("UNIQUE without the time column"),
        "alter table {table} add constraint once unique ({key}, {column})",
        ("0A000",),
        ("alter table {table} add constraint once unique ({key}, {column}, {time})",),
    ),
    ChangedStatement(
        translatable("a foreign key that points at the old key alone"),
        "create table {schema}.notes (event uuid references {table} ({key}))",
        ("42830",),
        (
            "create table {schema}.notes (event uuid, event_time timestamptz,"
            " foreign key (event, event_time) references {table} ({key}, {time}))",
        ),
    ),
    ChangedStatement(
        translatable("ON CONFLICT of the old key alone"),
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
        translatable("ALTER TABLE ... SET (storage parameter)"),
        "alter table {table} set (fillfactor = 90)",
        ("22023", "42809"),
        (
            "select format('alter table %s set (fillfactor = 90)', inhrelid::regclass) from pg_inherits"
            " where inhparent = '{table}'::regclass \\gexec",
        ),
    ),
    ChangedStatement(
        "UNIQUE USING INDEX",
        "create unique index {index} on {table} ({key}, {time});"
        " alter table {table} add constraint once unique using index {index}",
        ("0A000",),
        ("alter table {table} add constraint once unique ({key}, {time})",),
    ),
    ChangedStatement(
        "EXCLUDE",
        "alter table {table} add constraint apart exclude ({key} with =)",
        ("0A000",),
    ),
    ChangedStatement(
        "CHECK ... NO INHERIT",
        "alter table {table} add constraint short check (length({column}) < 9000) no inherit",
        ("42P16",),
        ("alter table {table} add constraint short check (length({column}) < 9000)",),
    ),
    ChangedStatement(
        translatable("a new identity column"),
        "alter table {table} add column number bigint generated by default as identity",
        ("42P16",),
        ("alter table {table} add column number bigserial",),
        until=17,
    ),
    ChangedStatement(
        translatable("a row trigger with transition tables"),
        NOTE + "create trigger each after insert on {table} referencing new table as added for each row"
        " execute function {schema}.note()",
        ("0A000",),
        (
            NOTE + "create trigger each after insert on {table} referencing new table as added for each statement"
            " execute function {schema}.note()",
        ),
    ),
    ChangedStatement(
        translatable("a table that inherits from it"),
        "create table {schema}.more () inherits ({table})",
        ("42809",),
        ("create table {schema}.more (like {table} including all)",),
    ),
    ChangedStatement("TRUNCATE ONLY", "truncate only {table}", ("42809",), ("truncate {table}",)),
    ChangedStatement(
        "COPY table TO", "copy {table} to stdout", ("42809",), ("copy (select * from {table}) to stdout",)
    ),
)


def changed_statements(server_version: int) -> tuple[ChangedStatement, ...]:
    """Those that this PostgreSQL (its major version) refuses."""
    return tuple(each for each in CHANGED_STATEMENTS if each.until is None or server_version < each.until)
