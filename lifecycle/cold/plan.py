"""What moving months would do to each table now: what leaves, what stays for views, and who stands in the way."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import sql

from lifecycle.archive.readers import FUNCTION
from lifecycle.cold.due import months_to_move
from lifecycle.cold.elsewhere import cold_rows
from lifecycle.cold.readers import cold_readers, columns_wanted, readers_in_the_way, without_cold_rows
from lifecycle.cold.status import relation_bytes
from lifecycle.cold.tables import narrow_name
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.partitions.tables import PARTITION_SCHEMA

KEY: Final = """
select a.attname::text from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
 where i.indrelid = to_regclass(%s) and i.indisprimary
"""
ROWS: Final = """
select coalesce(sum(greatest(c.reltuples, pg_relation_size(c.oid) / 1000)), 0)
  from pg_class c where c.relnamespace = to_regnamespace(%s) and c.relname = any (%s)
"""
# A row as PostgreSQL stores it, and its entry in the index of the primary key.
WIDTH: Final = sql.SQL("""
select coalesce(avg(pg_column_size(row({held})) + 4), 0), coalesce(avg(pg_column_size(row({key})) - 24 + 12), 0)
  from (select {held} from only {partition} limit 1000) t
""")
# So full are the pages of an index that was filled in no order.
FULL: Final = 0.7


@dataclass(frozen=True)
class ColdPlan:
    """What would leave (months, bytes with indexes), and what of it stays for views (about so many bytes, columns).

    `held_bytes` stays of months that left. `refused`: what would answer otherwise, with the reason. `functions` name
    the table and are in nobody's way.
    """

    table: str
    months: tuple[str, ...]
    hot_bytes: int
    stays_bytes: int
    stays_columns: tuple[str, ...]
    held_bytes: int
    readers: tuple[str, ...]
    refused: tuple[str, ...]
    functions: tuple[str, ...]


def plan_cold_months(conn: Connection, application: Application, now: datetime) -> tuple[ColdPlan, ...]:
    """Every table whose months go cold and that is partitioned."""
    found = []
    managed = application.database.managed_schemas
    for cold in cold_rows(conn, application):
        table = cold.declared
        readers = cold_readers(conn, cold)
        wanted = columns_wanted(readers) | cold.casts.keys()
        key = [name for (name,) in rows(conn, KEY, (str(table.relation),))]
        held = tuple(sorted(wanted | {*key, table.table.time_column})) if wanted else ()
        due = months_to_move(conn, table, now)
        partitions = [month.partition for month in due]
        found.append(
            ColdPlan(
                table=str(table.relation),
                months=tuple(f"{month.month:%Y-%m}" for month in due),
                hot_bytes=sum(month.bytes for month in due),
                stays_bytes=_stays(conn, partitions, key, held) if held and due else 0,
                stays_columns=held,
                held_bytes=relation_bytes(conn, narrow_name(table.relation)),
                readers=tuple(str(reader.view) for reader in readers if reader.far),
                refused=tuple(readers_in_the_way(conn, cold, managed)),
                functions=tuple(
                    reader.name for reader in without_cold_rows(conn, cold, managed) if reader.kind == FUNCTION
                ),
            )
        )
    return tuple(found)


def _stays(conn: Connection, partitions: list[str], key: list[str], held: tuple[str, ...]) -> int:
    count = float(value(conn, ROWS, (PARTITION_SCHEMA, partitions)))
    query = WIDTH.format(
        held=sql.SQL(", ").join(map(sql.Identifier, held)),
        key=sql.SQL(", ").join(map(sql.Identifier, key)),
        partition=sql.Identifier(PARTITION_SCHEMA, partitions[-1]),
    )
    width, entry = conn.execute(query).fetchone() or (0, 0)
    return round(count * (float(width) + float(entry) / FULL))
