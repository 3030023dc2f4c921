"""What will work differently for the application once its event table is partitioned: for this table. Reads only."""

from lifecycle.database import Connection, rows, value
from lifecycle.partitions.catalog import TableStructure
from lifecycle.partitions.changed import changed_statements
from lifecycle.partitions.refusals import REALTIME
from lifecycle.partitions.statements import upserts_by_old_key
from lifecycle.partitions.tables import MonthlyTable

OTHER_PARENTS_IN_PUBLICATION = """
select format('publication %%s: changes will be published under partition names, because'
              ' publish_via_partition_root is off and the publication holds other partitioned tables', p.pubname)
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
 where r.prrelid = %(oid)s and not p.pubviaroot and exists (
    select from pg_publication_rel o join pg_class c on c.oid = o.prrelid
     where o.prpubid = p.oid and c.relkind = 'p' and o.prrelid <> r.prrelid)
"""
# Publications of a whole schema: the table follows, under the names of its partitions unless told otherwise.
SCHEMA_PUBLICATIONS = """
select format('publication %%s of schema %%s: changes will be published under partition names; run'
              ' ALTER PUBLICATION %%s SET (publish_via_partition_root = true)', p.pubname, n.nspname, p.pubname)
  from pg_publication_namespace s join pg_publication p on p.oid = s.pnpubid join pg_namespace n on n.oid = s.pnnspid
 where not p.pubviaroot and s.pnnspid = (select relnamespace from pg_class where oid = %(oid)s)
"""
RESTRICTING_KEYS = """
select format('while months are built, a row of %%s may not be deleted right after its last event: foreign key %%s'
              ' checks the copies too', confrelid::regclass, conname)
  from pg_constraint where conrelid = %(oid)s and contype = 'f' and confdeltype in ('a', 'r')
"""
INVALID_INDEXES = """
select format('index %%s is invalid and will not be kept', indexrelid::regclass) from pg_index
 where indrelid = %(oid)s and not indisvalid and indexrelid::regclass::text not like '%%\\_legacy\\_pkey'
"""
CLUSTERED = """
select format('CLUSTER without an index fails: %%s is not marked any more; write CLUSTER ... USING it',
              indexrelid::regclass)
  from pg_index where indrelid = %(oid)s and indisclustered
"""
# The others have no right in the schema where the parent waits.
GRANTED_BY_OTHERS = """
select format('what %%s granted to others will be granted by %%s', pg_get_userbyid(a.grantor),
              pg_get_userbyid(c.relowner))
  from pg_class c cross join lateral (
    select * from aclexplode(c.relacl) union all
    select x.* from pg_attribute t, aclexplode(t.attacl) x where t.attrelid = c.oid) a
 where c.oid = %(oid)s and a.grantor <> c.relowner group by 1
"""
# Row triggers are copied to each partition and fire there.
ROW_TRIGGERS_THAT_LOOK = """
select format('row trigger %%s looks at %%s, which will be that of the partition', t.tgname,
              (select string_agg(distinct upper(m[1]), ', ')
                 from regexp_matches(p.prosrc, '\\m(tg_(?:relid|relname|table_name|table_schema))\\M', 'gi') m))
  from pg_trigger t join pg_proc p on p.oid = t.tgfoid
 where t.tgrelid = %(oid)s and not t.tgisinternal and t.tgtype & 1 = 1
   and p.prosrc ~* '\\mtg_(relid|relname|table_name|table_schema)\\M'
 order by t.tgname
"""
AFTER_UPDATE_TRIGGERS = """
select format('an UPDATE that moves a row to another month fires no AFTER UPDATE row trigger (%%s) but those of DELETE'
              ' and INSERT', string_agg(tgname, ', ' order by tgname))
  from pg_trigger where tgrelid = %(oid)s and not tgisinternal and tgtype & 19 = 17 having count(*) > 0
"""
SWITCHED_PUBLICATIONS = """
select format('publication %%s: publish_via_partition_root is switched on, so that changes keep the table''s name;'
              ' subscribers run ALTER SUBSCRIPTION ... REFRESH PUBLICATION WITH (copy_data = false)', p.pubname)
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
 where r.prrelid = %(oid)s and p.pubname <> 'supabase_realtime' order by p.pubname
"""
STATEMENT_STATISTICS = """
select 'pg_stat_statements counts the statements on it anew, since the table gets another number (OID)'
  from pg_extension where extname = 'pg_stat_statements'
"""
MIGRATIONS_AFTERWARDS = "docs/reference/partitioned-tables.md"
WARNINGS = (
    OTHER_PARENTS_IN_PUBLICATION,
    SCHEMA_PUBLICATIONS,
    RESTRICTING_KEYS,
    INVALID_INDEXES,
    CLUSTERED,
    GRANTED_BY_OTHERS,
    ROW_TRIGGERS_THAT_LOOK,
    AFTER_UPDATE_TRIGGERS,
    SWITCHED_PUBLICATIONS,
    STATEMENT_STATISTICS,
)


def warnings(conn: Connection, table: MonthlyTable, old: TableStructure) -> list[str]:
    """What keeps working differently after the conversion."""
    found = []
    if table.time_column not in old.primary_key and old.primary_key:
        key, new_key = ", ".join(old.primary_key), ", ".join(old.new_key(table.time_column))
        found = [
            f"INSERT ... ON CONFLICT ({key}) will fail; write ON CONFLICT ({new_key})",
            f"the key becomes ({new_key}): the same {key} with another {table.time_column} is accepted",
            *(f"would fail: {upsert}" for upsert in upserts_by_old_key(conn, table, old.primary_key)),
            f"UPDATE and DELETE by {key} alone visit every partition; add {table.time_column} to the condition",
        ]
    failing = ", ".join(each.what for each in changed_statements(conn.info.server_version // 10_000))
    found.append(f"will fail in migrations: {failing}; what to write instead: {MIGRATIONS_AFTERWARDS}")
    params = {"oid": old.oid}
    if publication := value(conn, REALTIME, params):
        found.append(f"publication {publication}: Supabase's Realtime will deliver no change of this table any more")
    return found + [row[0] for query in WARNINGS for row in rows(conn, query, params)]
