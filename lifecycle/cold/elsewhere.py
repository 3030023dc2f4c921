"""Cold rows in the eyes of views over their table: what the narrow table and the thawed table hold of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lifecycle.cold.tables import ColdTable, cold_tables, narrow_name, thawed_name
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.model import shortest_length
from lifecycle.names import QualifiedName, quoted
from lifecycle.views.lookback import keeps_within

# What stands as text in the narrow table is cast back to the type of the event table's column.
HELD: Final = """
select n.attname::text,
       case when (n.atttypid, n.atttypmod) <> (e.atttypid, e.atttypmod)
            then case when t.typnamespace <> 'pg_catalog'::regnamespace and pg_type_is_visible(t.oid)
                      then quote_ident(s.nspname) || '.' else '' end || format_type(e.atttypid, e.atttypmod) end
  from pg_attribute n
  join pg_attribute e on e.attrelid = to_regclass(%s) and e.attname = n.attname and not e.attisdropped
  join pg_type t on t.oid = e.atttypid join pg_namespace s on s.oid = t.typnamespace
 where n.attrelid = to_regclass(%s) and n.attnum > 0 and not n.attisdropped order by n.attnum
"""
# Until it is partitioned no month can leave, and what its views are made of would be in the way of that.
IS_PARTITIONED: Final = "select relkind = 'p' from pg_class where oid = to_regclass(%s)"
HAS_MONTHS: Final = "select to_regclass('lifecycle.narrow_months') is not null"
# Months with files, and which columns of theirs the narrow table holds. What is thawed has all columns.
MONTHS: Final = """
select f.month, coalesce(n.column_names, '{}')
  from (select distinct f.month from lifecycle.cold_files f
         where f.state = 'live' and f.schema_name = %(schema)s and f.table_name = %(table)s) f
  left join lifecycle.narrow_months n
    on n.schema_name = %(schema)s and n.table_name = %(table)s and n.month = f.month
 order by 1
"""


@dataclass(frozen=True)
class ColdRows:
    """What a view can read of a table's cold rows (lifecycle/views/seam.py, Elsewhere).

    `casts`: the columns of the narrow table, each with the type that it is read as where that is another one. `months`:
    the columns that are held of each cold month.
    """

    declared: ColdTable
    casts: Mapping[str, str | None]
    months: tuple[frozenset[str], ...]

    @property
    def table(self) -> QualifiedName:
        return self.declared.relation

    @cached_property
    def relations(self) -> tuple[QualifiedName, ...]:
        return (narrow_name(self.table), thawed_name(self.table))

    @property
    def fingerprint(self) -> str:
        whole = [name for name in self.casts if all(name in month for month in self.months)]
        return f"{self.table} {self.declared.cold_after} {' '.join(map(quoted, whole))}"

    @property
    def passed_by(self) -> None:
        return None

    @property
    def accepted(self) -> bool:
        return self.declared.accept_changed_views

    @property
    def missed(self) -> str:
        return f"reads only those rows of {self.table} that are not in cold storage"

    @property
    def fewest_columns(self) -> tuple[str, ...]:
        return (self.declared.table.time_column,)

    def selected(self, relation: QualifiedName, columns: Sequence[str]) -> str:
        if relation != self.relations[0]:
            shown = ", ".join(f"t.{quoted(name)}" for name in columns)
            return f"SELECT {shown} FROM {relation} t"  # noqa: S608 - names, quoted
        shown = ", ".join(map(self._narrow, columns))
        return f"SELECT {shown} FROM {relation} a"  # noqa: S608 - names, quoted

    def _narrow(self, name: str) -> str:
        cast = f"::{self.casts[name]}" if self.casts[name] else ""
        return f"a.{quoted(name)}{cast} AS {quoted(name)}"

    def concerns(self, definition: str) -> bool:
        """Whether a SELECT may look back as far as a month that is not there any more."""
        youngest = shortest_length(self.declared.cold_after)
        return not keeps_within(definition, self.table, self.declared.table.time_column, youngest)

    def obstacle(self, definition: str, columns: Sequence[str]) -> str | None:  # noqa: ARG002 - whatever it computes
        if missing := [name for name in columns if name not in self.casts]:
            return f"{self.relations[0]} does not hold {', '.join(missing)} yet, which `lifecycle migrate` changes"
        if lacking := sum(not month.issuperset(columns) for month in self.months):
            return (
                f"{lacking} cold months are not in {self.relations[0]} with every column that it reads; the job "
                "move_cold_months reads them out of their files, then `lifecycle migrate` lets it see them"
            )
        return None


def cold_rows(conn: Connection, application: Application) -> Iterator[ColdRows]:
    """Of each table whose months go cold and that is partitioned: what stands beside it."""
    for table in cold_tables(application):
        if value(conn, IS_PARTITIONED, (str(table.relation),)):
            yield read_cold_rows(conn, table)


def read_cold_rows(conn: Connection, table: ColdTable) -> ColdRows:
    """What stands beside the table now; nothing before the first migration."""
    casts = dict(rows(conn, HELD, (str(table.relation), str(narrow_name(table.relation)))))
    names = {"schema": table.relation.schema, "table": table.relation.name}
    months = rows(conn, MONTHS, names) if value(conn, HAS_MONTHS) else []
    return ColdRows(table, casts, tuple(frozenset(columns) for _, columns in months))
