"""Indexes that another one makes superfluous, and those that nothing reads. Nothing is dropped."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.indexes.model import declared_indexes

PLAIN_SCHEMA: Final = "public"
# A btree is superfluous when another one begins with its keys; other methods only when all of it is the same. Of two
# equal ones the younger is named. One that keeps rows unique, or that a constraint or the replica identity needs, is
# not.
DUPLICATES: Final = """
with described as (
    select i.indexrelid, i.indrelid, i.indisunique, i.indisreplident, m.amname, i.indnatts, i.indnkeyatts::int as width,
           pg_get_expr(i.indpred, i.indrelid) as predicate,
           exists (select from pg_constraint k where k.conindid = i.indexrelid) as constrained,
           array(select format('%%s %%s %%s %%s', pg_get_indexdef(i.indexrelid, k, false), i.indclass[k - 1],
                               i.indcollation[k - 1], i.indoption[k - 1])
                   from generate_series(1, i.indnkeyatts::int) k order by k) as keys
      from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam
     where c.relnamespace in (select n.oid from pg_namespace n where n.nspname = any (%(schemas)s))
       and i.indisvalid and not c.relispartition)
select d.indrelid::regclass::text, n.relname::text, o.relname::text, pg_relation_size(d.indexrelid)
  from described d join pg_class n on n.oid = d.indexrelid
  cross join lateral (
        select c.relname from described w join pg_class c on c.oid = w.indexrelid
         where w.indrelid = d.indrelid and w.indexrelid <> d.indexrelid and w.amname = d.amname
           and w.predicate is not distinct from d.predicate and d.indnatts = d.width
           and (w.keys = d.keys and (w.indisunique or w.constrained or w.indexrelid < d.indexrelid)
                or d.amname = 'btree' and w.width > d.width and w.keys[:d.width] = d.keys)
         order by w.width, w.indexrelid limit 1) o
 where not (d.indisunique or d.constrained or d.indisreplident)
 order by 1, 2
"""
# Where counters were never reset, they count at least since the server started.
SINCE: Final = """
select coalesce(stats_reset, pg_postmaster_start_time()) from pg_stat_database where datname = current_database()
"""
UNUSED: Final = """
select s.relid::regclass::text, s.indexrelname::text, pg_relation_size(s.indexrelid)
  from pg_stat_user_indexes s join pg_index i using (indexrelid)
 where s.schemaname = any (%(schemas)s) and s.idx_scan = 0 and i.indisvalid
   and not (i.indisunique or i.indisreplident or exists (select from pg_constraint k where k.conindid = i.indexrelid))
   and not exists (select from lifecycle.index_plans p
                    where (p.schema_name, p.index_name) = (s.schemaname, s.indexrelname)
                      and p.built_at > now() - make_interval(days => %(days)s))
 order by pg_relation_size(s.indexrelid) desc, 1, 2
"""


@dataclass(frozen=True)
class RedundantIndex:
    """One index, the table it is on, and the index that does its work; None: nothing has read it."""

    table: str
    name: str
    bytes: int
    covered_by: str | None = None


@dataclass(frozen=True)
class RedundantIndexes:
    """Duplicates, and indexes never read since `counted_since`; `long_enough` says whether that proves anything."""

    duplicates: tuple[RedundantIndex, ...]
    unused: tuple[RedundantIndex, ...]
    counted_since: datetime
    long_enough: bool
    days: int


def redundant_indexes(conn: Connection, application: Application, now: datetime) -> RedundantIndexes:
    """Look at every index of schema public and of the declared tables' schemas. Reads of a standby are not counted."""
    days = application.indexes.unused_after_days
    schemas = {PLAIN_SCHEMA, *(index.table.schema for index in declared_indexes(application))}
    params = {"days": days, "schemas": sorted(schemas)}
    since: datetime = rows(conn, SINCE)[0][0]
    return RedundantIndexes(
        tuple(RedundantIndex(table, name, size, other) for table, name, other, size in rows(conn, DUPLICATES, params)),
        tuple(RedundantIndex(*row) for row in rows(conn, UNUSED, params)),
        since,
        (now - since).days >= days,
        days,
    )
