"""What the catalog says about a table that is to be partitioned. Read-only."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.names import QualifiedName
from lifecycle.partitions.tables import PARTITION_SCHEMA, MonthlyTable

STRUCTURE = """
select c.oid, c.relkind::text, pg_get_userbyid(c.relowner), c.relpersistence::text, c.relrowsecurity,
       c.relforcerowsecurity, c.relreplident::text,
       coalesce(c.reloptions, '{}') || array(
         select 'toast.' || o from pg_class t, unnest(t.reloptions) o where t.oid = c.reltoastrelid),
       obj_description(c.oid, 'pg_class'),
       c.relispartition, pg_has_role(c.relowner, 'usage'), greatest(c.reltuples, 0)::bigint,
       pg_total_relation_size(c.oid)
  from pg_class c where c.oid = to_regclass(%s)
"""
COLUMNS = """
select attname, format_type(atttypid, atttypmod), attnotnull, attgenerated <> ''
  from pg_attribute where attrelid = %s and attnum > 0 and not attisdropped order by attnum
"""
PRIMARY_KEY = """
select k.conname, array(select a.attname from unnest(k.conkey) with ordinality u(n, o)
                        join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n order by u.o)
  from pg_constraint k where k.conrelid = %s and k.contype = 'p'
"""


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    not_null: bool
    generated: bool


@dataclass(frozen=True)
class TableStructure:
    """One table as the catalog describes it; `rows` is the planner's estimate."""

    oid: int
    kind: str
    owner: str
    persistence: str
    row_security: bool
    force_row_security: bool
    replica_identity: str
    storage_options: tuple[str, ...]
    comment: str | None
    is_partition: bool
    owned_by_us: bool
    rows: int
    bytes: int
    columns: tuple[Column, ...]
    primary_key_name: str | None
    primary_key: tuple[str, ...]

    @property
    def partitioned(self) -> bool:
        return self.kind == "p"

    def new_key(self, time_column: str) -> tuple[str, ...]:
        """The primary key after conversion: a partitioned table's key must hold the time column."""
        return self.primary_key if time_column in self.primary_key else (*self.primary_key, time_column)

    @property
    def written_columns(self) -> sql.Composed:
        """The columns that an INSERT may name."""
        return sql.SQL(", ").join(sql.Identifier(column.name) for column in self.columns if not column.generated)


def table_structure(conn: Connection, qualified_name: str) -> TableStructure | None:
    """The structure of a table (name quoted as SQL needs it), or None where there is none."""
    found = rows(conn, STRUCTURE, (qualified_name,))
    if not found:
        return None
    row: tuple[Any, ...] = found[0]
    key = rows(conn, PRIMARY_KEY, (row[0],))
    return TableStructure(
        oid=row[0],
        kind=row[1],
        owner=row[2],
        persistence=row[3],
        row_security=row[4],
        force_row_security=row[5],
        replica_identity=row[6],
        storage_options=tuple(row[7]),
        comment=row[8],
        is_partition=row[9],
        owned_by_us=row[10],
        rows=row[11],
        bytes=row[12],
        columns=tuple(Column(*column) for column in rows(conn, COLUMNS, (row[0],))),
        primary_key_name=key[0][0] if key else None,
        primary_key=tuple(key[0][1]) if key else (),
    )


@dataclass(frozen=True)
class Names:
    """The objects of one conversion, each as a safely quoted identifier."""

    table: MonthlyTable

    @property
    def public(self) -> sql.Identifier:
        return sql.Identifier(self.table.schema, self.table.name)

    @property
    def parent_before_swap(self) -> sql.Identifier:
        return sql.Identifier(PARTITION_SCHEMA, self.table.name)

    @property
    def legacy_name(self) -> str:
        return f"{self.table.stem}_legacy"

    @property
    def legacy(self) -> sql.Identifier:
        return sql.Identifier(PARTITION_SCHEMA, self.legacy_name)

    @property
    def capture(self) -> sql.Identifier:
        return sql.Identifier("lifecycle", f"{self.table.stem}_capture")

    @property
    def capture_function(self) -> sql.Identifier:
        return sql.Identifier("lifecycle", f"capture_{self.table.stem}")

    @property
    def new_key_index(self) -> str:
        return f"{self.table.stem}_legacy_pkey"

    def partition(self, name: str) -> sql.Identifier:
        return sql.Identifier(PARTITION_SCHEMA, name)

    @property
    def time_column(self) -> sql.Identifier:
        return sql.Identifier(self.table.time_column)


def is_partition_of_ours(conn: Connection, table: MonthlyTable) -> bool:
    """Whether the plain table is attached whole to the parent that waits in the partition schema."""
    return bool(
        value(
            conn,
            "select exists (select from pg_inherits where inhrelid = to_regclass(%s) and inhparent = to_regclass(%s))",
            (table.qualified_name, str(QualifiedName(PARTITION_SCHEMA, table.name))),
        )
    )
