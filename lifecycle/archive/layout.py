"""What an archived table looks like now, from the catalog, and how each of its columns is stored in the archive."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.declarations.archive import ArchivedTable
from lifecycle.declarations.model import fixed_length
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase
from lifecycle.names import QualifiedName

# Names beside a compressed column: its gzip, and the checksum of its text.
GZIP, SHA256 = "_gzip", "_sha256"
ARCHIVED_AT: Final = "archived_at"
# A type of the application, of an extension or a domain: stored as its text, since nothing of ours may depend on it.
STORED_AS_TEXT: Final = "pg_catalog.text"
# Any difference means that a statement of ours was made for other columns.
FINGERPRINT: Final = """
select md5(string_agg(concat_ws('.', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated), ' '
                      order by a.attnum))
  from pg_attribute a where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped
"""
COLUMNS: Final = """
select a.attnum::int, a.attname::text, format('%%I.%%I', n.nspname, t.typname),
       n.nspname = 'pg_catalog' and t.oid < 16384, a.attnotnull, a.attgenerated <> '',
       pg_get_expr(d.adbin, d.adrelid), (a.attmissingval::text::text[])[1], format_type(a.atttypid, a.atttypmod)
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid join pg_namespace n on n.oid = t.typnamespace
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
# Rows belong to a group by a foreign key or not at all; without one nobody said that they go with it.
GROUP_KEY: Final = """
select k.confdeltype::text from pg_constraint k
  join pg_attribute a on a.attrelid = k.conrelid and k.conkey = array[a.attnum]
  join pg_attribute g on g.attrelid = k.confrelid and k.confkey = array[g.attnum]
 where k.contype = 'f' and k.conrelid = to_regclass(%s) and k.confrelid = to_regclass(%s)
   and a.attname = %s and g.attname = %s and k.conparentid = 0
"""
MOMENTS: Final = {
    # As PostgreSQL quotes them: one of them is a keyword.
    "pg_catalog.timestamptz": sql.SQL("{}::timestamptz"),
    'pg_catalog."timestamp"': sql.SQL("({}::timestamptz at time zone 'UTC')"),
    "pg_catalog.date": sql.SQL("({}::timestamptz at time zone 'UTC')::date"),
}


@dataclass(frozen=True)
class ArchivedColumn:
    """A column of the source. `type` and `stored` are names of types without length; `missing` is the text of what
    rows hold that are older than the column."""

    number: int
    name: str
    type: str
    built_in: bool
    not_null: bool
    generated: bool
    default: str | None
    missing: str | None
    printed: str
    compressed: bool

    @property
    def exact(self) -> str:
        """The type with its length. One of the application has none that a cast would need."""
        return self.printed if self.built_in else self.type

    @property
    def stored(self) -> str:
        return self.type if self.built_in else STORED_AS_TEXT


@dataclass(frozen=True)
class Archive:
    """An archived table as it is declared."""

    source: QualifiedName
    declared: ArchivedTable

    @property
    def job(self) -> str:
        return self.declared.job or f"archive_{self.source.name}"

    @property
    def keep_for(self) -> timedelta:
        return fixed_length(self.declared.after)

    @property
    def keep_groups_for(self) -> timedelta:
        """How old a group has to be before its rows may go; nothing where that is not declared."""
        return fixed_length(self.declared.groups.after) if self.declared.groups.after else timedelta()

    @property
    def keeps_archived_rows(self) -> sql.Composed:
        """Its key in our tables, as a condition without names of tables."""
        name = self.declared.archive
        return sql.SQL("archive_schema = {} and archive_table = {}").format(
            sql.Literal(name.schema), sql.Literal(name.name)
        )


@dataclass(frozen=True)
class Layout:
    """The columns of a source at one moment. `goes_with_group`: deleting a group deletes its archived rows."""

    archive: Archive
    columns: tuple[ArchivedColumn, ...]
    fingerprint: str
    goes_with_group: bool

    def column(self, name: str) -> ArchivedColumn:
        return next(column for column in self.columns if column.name == name)

    @property
    def compressed(self) -> tuple[ArchivedColumn, ...]:
        return tuple(column for column in self.columns if column.compressed)

    @property
    def key_type(self) -> sql.SQL:
        return type_name(self.column(self.archive.declared.id))

    @property
    def group_type(self) -> sql.SQL:
        return type_name(self.column(self.archive.declared.group))

    def moment(self, at: sql.Composable) -> sql.Composed:
        """A timestamptz in the type of the source's time, to compare with it."""
        return MOMENTS[self.column(self.archive.declared.time).type].format(at)

    @property
    def instant(self) -> sql.Composed:
        """The time of row `m` as timestamptz."""
        column = sql.SQL("m.{}").format(sql.Identifier(self.archive.declared.time))
        known = self.column(self.archive.declared.time).type == "pg_catalog.timestamptz"
        return column if known else sql.SQL("({}::timestamp at time zone 'UTC')").format(column)


def type_name(column: ArchivedColumn) -> sql.SQL:
    """The source's type, quoted by the database."""
    return sql.SQL(column.type)


def archives_of(tables: dict[QualifiedName, ArchivedTable]) -> tuple[Archive, ...]:
    """The declared archives, in order of declaration."""
    return tuple(Archive(source, declared) for source, declared in tables.items())


def exists(conn: Connection, relation: QualifiedName) -> bool:
    return value(conn, "select to_regclass(%s)", (str(relation),)) is not None


def read_layout(conn: Connection, archive: Archive) -> Layout:
    """RefusedError when a declared table or column is not there, or is of a kind that cannot be archived by."""
    source, declared = archive.source, archive.declared
    for relation in (source, declared.groups.table):
        if not exists(conn, relation):
            raise RefusedError(
                Phrase(
                    "{source}: there is no table {table}. Correct archive.yaml, then migrate again.",
                    source=source,
                    table=relation,
                )
            )
    found = rows(conn, COLUMNS, (str(source),))
    types = {name: kind for _, name, kind, *_ in found}
    # What was compressed once stays so, whatever is declared by now: its older rows are.
    packed = {name for _, name, *_ in rows(conn, COLUMNS, (str(declared.archive),)) if name not in types}
    compressed = {name for name in types if name in declared.compress or {name + GZIP, name + SHA256} <= packed}
    columns = tuple(ArchivedColumn(*(*row, row[1] in compressed)) for row in found)
    _require(source, types, (declared.id, declared.group, declared.time, *declared.compress, *declared.show))
    groups = {column: kind for _, column, kind, *_ in rows(conn, COLUMNS, (str(declared.groups.table),))}
    _require(declared.groups.table, groups, filter(None, (declared.groups.id, declared.groups.time)))
    if types[declared.time] not in MOMENTS:
        raise RefusedError(
            Phrase(
                "{table}.{column}: is {type}; archive.yaml needs a timestamptz, timestamp or date",
                table=source,
                column=declared.time,
                type=types[declared.time],
            )
        )
    ours = {name + end for name in declared.compress for end in (GZIP, SHA256)} | {ARCHIVED_AT}
    if taken := sorted(ours & set(types)):
        raise RefusedError(
            Phrase(
                "{table}.{column}: the archive keeps a column of ours under this name. Rename one.",
                table=source,
                column=taken[0],
            )
        )
    names = (str(source), str(declared.groups.table), declared.group, declared.groups.id)
    actions = {action for (action,) in rows(conn, GROUP_KEY, names)}
    return Layout(
        archive,
        columns,
        fingerprint=str(value(conn, FINGERPRINT, (str(source),))),
        goes_with_group=bool(actions) and actions <= {"a", "r", "c"},
    )


def _require(table: QualifiedName, known: dict[str, str], columns: Iterable[str]) -> None:
    for column in columns:
        if column not in known:
            raise RefusedError(
                Phrase(
                    "{table}.{column}: archive.yaml declares this column and the table has none of that name. Nothing"
                    " is moved until archive.yaml names the right one.",
                    table=table,
                    column=column,
                )
            )
