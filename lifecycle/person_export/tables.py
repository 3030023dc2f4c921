"""Which rows of which tables belong into an export, and the queries that read them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from psycopg import sql
from psycopg.types.json import Jsonb

from lifecycle.archive.layout import GZIP, SHA256
from lifecycle.cold.tables import thawed_name
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.personal_data import PersonalData, Step
from lifecycle.erasures.data_map import mapped_tables
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName

# The keys of the person, for one transaction; statements that name them would stand in the server's log.
KEYS: Final = sql.SQL("pg_temp.person_export_keys")
DROP_KEYS: Final = "drop table if exists pg_temp.person_export_keys"
MAKE_KEYS: Final = """
create temporary table person_export_keys on commit drop as select * from lifecycle.bound_keys(%s, %s)
"""
ANALYZE: Final = "analyze pg_temp.person_export_keys"
FOUND_KINDS: Final = "select distinct kind from pg_temp.person_export_keys"
THERE: Final = "select lifecycle.is_there(%(name)s), lifecycle.reachable(%(name)s) is not null"
COLUMNS: Final = """
select a.attname::text, format_type(a.atttypid, null)
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
 where format('%%I.%%I', n.nspname, c.relname) = %s and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
COMMENT: Final = "select coalesce(obj_description(to_regclass(%s), 'pg_class'), '')"
# A key is text; compared with a uuid, what is none could not be cast.
COMPARED: Final = sql.SQL(
    "t.{by} in (select case when {fits} then k.key::{type} end from {keys} k where k.kind = {kind}{sure}){unowned}"
)
FITS_UUID: Final = sql.SQL("k.key ~ ('^' || lifecycle.id_pattern() || '$')")
COPY: Final = sql.SQL("copy (select {columns} from {table} t where {condition}{before}) to stdout")
# The machinery's own notes about people are no data of theirs: which of them wait for something.
OURS: Final = "lifecycle"
JSON: Final = ("json", "jsonb")
# Without a length these would mean one letter, one bit.
WHOLE: Final = {"character": "bpchar", "bit": "varbit"}


@dataclass(frozen=True)
class ExportedColumn:
    """A column as it is handed out. Of a `packed` one the archive keeps a text, its gzip and a checksum; what it keeps
    as text of another type is `cast` back."""

    name: str
    type: str
    cast: str = ""
    packed: bool = False

    @property
    def is_json(self) -> bool:
        return (self.cast or self.type) in JSON

    def selected(self) -> sql.Composed:
        """What is read of it: its value as JSON, or the three parts of a packed text."""
        name = sql.Identifier(self.name)
        if not self.packed:
            cast = sql.SQL(f"::{self.cast}" if self.cast else "")
            return sql.SQL("to_json(t.{}{})::text").format(name, cast)
        gzip, checksum = (sql.Identifier(self.name + end) for end in (GZIP, SHA256))
        return sql.SQL("t.{}::text, t.{}, t.{}").format(name, gzip, checksum)

    @property
    def read_types(self) -> tuple[str, ...]:
        return ("text", "bytea", "bytea") if self.packed else ("text",)


@dataclass(frozen=True)
class Way:
    """How rows are found: `by` is a key of this kind. `query` copies those that no way before it has found; `cold` ones
    come from cold months."""

    by: str
    kind: str
    query: sql.Composed
    cold: bool = False


@dataclass(frozen=True)
class ExportedTable:
    """A table with what it is, in the words of the map and of the database's own comment. `archive_of`: whose old rows
    it keeps. `partly`: only the columns that the map names."""

    name: QualifiedName
    columns: tuple[ExportedColumn, ...]
    ways: tuple[Way, ...]
    why: str
    comment: str
    archive_of: QualifiedName | None = None
    partly: bool = False


def collect_keys(conn: Connection, person: str, in_place: Mapping[str, str | None] | None = None) -> None:
    """Collect what the person's rows are found by, for the rest of the caller's transaction.

    `in_place`: relations of this session that are read instead of tables, None for a table that is a part of these.
    """
    conn.execute(DROP_KEYS)
    conn.execute(MAKE_KEYS, (person, Jsonb(in_place or {})))
    conn.execute(ANALYZE)


def exported_tables(
    conn: Connection, application: Application, cold: Mapping[QualifiedName, sql.Composable]
) -> Iterator[ExportedTable]:
    """The tables of the map that are there, in its order, and the platform's table of people who sign in.

    Needs the keys. `cold`: of event tables, the relation of their rows from cold months, with the same columns.
    RefusedError when one cannot be read, or lacks a column by which it has to be.
    """
    thawed = {thawed_name(table) for table in (*application.event_tables, *cold)}
    kinds = {kind for (kind,) in rows(conn, FOUND_KINDS)}
    archives = {declared.archive: source for source, declared in application.archive.root.items()}
    for table in mapped_tables(application):
        ours = table.name.schema == OURS or table.name in thawed
        if table.steps and not ours and _is_there(conn, table.name):
            source = archives.get(table.name)
            columns = tuple(_columns(conn, table.name, source))
            yield ExportedTable(
                name=table.name,
                columns=columns,
                ways=_ways(conn, table.name, columns, table.steps, kinds, cold.get(table.name)),
                why=table.declared.why,
                comment=value(conn, COMMENT, (str(table.name),)),
                archive_of=source,
            )
    if application.personal_data is not None:
        yield from _sign_in(conn, application.personal_data, kinds)


def _is_there(conn: Connection, table: QualifiedName, optional: bool = False) -> bool:
    """What was dropped holds nothing; what this role may not read would be missing from the export."""
    there, readable = rows(conn, THERE, {"name": str(table)})[0]
    if there and not readable and not optional:
        raise RefusedError(
            f"{table}: is on the map of personal data and may not be read by this role, so the export would not be "
            "whole. Grant SELECT on it, or export as the owner of the tables. Nothing was written"
        )
    return bool(there and readable)


def _columns(conn: Connection, table: QualifiedName, source: QualifiedName | None) -> Iterator[ExportedColumn]:
    """Every column; those beside a packed one are a part of it. An archive keeps a type of the application as text."""
    own = dict(rows(conn, COLUMNS, (str(table),)))
    original = dict(rows(conn, COLUMNS, (str(source),))) if source else {}
    packed = {name for name in own if source and {name + GZIP, name + SHA256} <= own.keys()}
    parts = {name + end for name in packed for end in (GZIP, SHA256)}
    for name, kind in own.items():
        if name not in parts:
            before = str(original.get(name, kind))
            yield ExportedColumn(name, kind, before if before != kind else "", name in packed)


def _ways(
    conn: Connection,
    table: QualifiedName,
    columns: tuple[ExportedColumn, ...],
    steps: tuple[Step, ...],
    kinds: set[str],
    cold: sql.Composable | None = None,
) -> tuple[Way, ...]:
    types = dict(rows(conn, COLUMNS, (str(table),)))
    found: list[Way] = []
    before: list[sql.Composed] = []
    for by, kind, unowned in dict.fromkeys((step.by, step.key, step.unowned) for step in steps):
        if lacking := [name for name in (by, unowned) if name and name not in types]:
            raise RefusedError(
                f"{table}.{lacking[0]}: is on the map of personal data and does not exist, so rows of a person cannot "
                "be found. Correct personal_data.yaml and run `lifecycle migrate`. Nothing was written"
            )
        if kind in kinds:
            condition = _condition(by, kind, unowned, types[by])
            for relation in (table.identifier, cold):
                if relation is not None:
                    query = COPY.format(
                        columns=sql.SQL(", ").join(column.selected() for column in columns),
                        table=relation,
                        condition=condition,
                        before=sql.SQL("").join(sql.SQL(" and ({}) is not true").format(other) for other in before),
                    )
                    found.append(Way(by, kind, query, cold=relation is cold))
            before.append(condition)
    return tuple(found)


def _condition(by: str, kind: str, unowned: str | None, held: str) -> sql.Composed:
    return COMPARED.format(
        by=sql.Identifier(by),
        fits=FITS_UUID if held == "uuid" else sql.SQL("true"),
        type=sql.SQL(WHOLE.get(held, held)),
        keys=KEYS,
        kind=sql.Literal(kind),
        # In a text it could be the id of somebody else's row.
        sure=sql.SQL("" if held == "uuid" else " and not k.claimed"),
        unowned=sql.SQL(" and t.{} is null").format(sql.Identifier(unowned)) if unowned else sql.SQL(""),
    )


def _sign_in(conn: Connection, data: PersonalData, kinds: set[str]) -> Iterator[ExportedTable]:
    """Only the columns that the map names: the platform keeps hashes of passwords and tokens beside them."""
    sign_in = data.person.sign_in
    if sign_in is None or not _is_there(conn, sign_in.table, sign_in.optional):
        return
    named = _named_columns(data, sign_in.table) | {sign_in.id}
    columns = tuple(column for column in _columns(conn, sign_in.table, None) if column.name in named)
    step = Step(by=sign_in.id, key=sign_in.key)
    ways = _ways(conn, sign_in.table, columns, (step,), kinds)
    yield ExportedTable(sign_in.table, columns, ways, sign_in.why, "", partly=True)


def _named_columns(data: PersonalData, table: QualifiedName) -> set[str]:
    sources = (source for key in data.keys.values() for source in key.sources if source.table == table)
    return {column for source in sources for column in (source.by, source.take, source.given) if column}
