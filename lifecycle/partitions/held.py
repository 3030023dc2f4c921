"""What keeps a month past retention from being dropped. Each month goes alone: one that is held keeps no other."""

from datetime import datetime
from typing import Final

from lifecycle.database import Connection, rows
from lifecycle.language import Phrase, translatable
from lifecycle.partitions.tables import MonthlyTable

# What depends on a partition or its row type and is no part of it; DROP TABLE would name the same.
HELD: Final = """
with past as (
    select e.partition::oid as oid, e.name from lifecycle.event_table_policies p
     cross join lateral lifecycle.expired_event_partitions(p, %(now)s) e
     where p.schema_name = %(schema)s and p.table_name = %(name)s),
holders as (
    select past.name, d.classid, d.objid, d.objsubid from past join pg_depend d
        on d.refclassid = 'pg_class'::regclass and d.refobjid = past.oid and d.deptype = 'n'
     union all
    select past.name, d.classid, d.objid, d.objsubid from past join pg_type t on t.typrelid = past.oid
      join pg_depend d on d.refclassid = 'pg_type'::regclass and d.refobjid in (t.oid, t.typarray) and d.deptype = 'n')
select distinct h.name, coalesce(c.relkind::text, ''), coalesce(
           case when c.relkind in ('v', 'm') then r.ev_class::regclass::text end,
           pg_describe_object(h.classid, h.objid, h.objsubid))
  from holders h left join pg_rewrite r on h.classid = 'pg_rewrite'::regclass and r.oid = h.objid
  left join pg_class c on c.oid = r.ev_class
 order by 1, 2, 3
"""
# By its kind in pg_class; anything else is told as PostgreSQL prints it.
HOLDS: Final = {
    "v": translatable("view {holder} holds {partition}"),
    "m": translatable("materialized view {holder} holds {partition}"),
}
HOLDS_TOO: Final = translatable("{holder} holds {partition}")


def held_partitions(conn: Connection, table: MonthlyTable, now: datetime) -> tuple[Phrase, ...]:
    """One phrase for each thing that holds a month past retention, such as `view app.v holds visits_2024_01`."""
    found = rows(conn, HELD, {"now": now, "schema": table.schema, "name": table.name})
    return tuple(
        Phrase(HOLDS.get(kind, HOLDS_TOO), holder=holder, partition=partition) for partition, kind, holder in found
    )
