"""What will work differently for the application once its event table is partitioned: for this table. Reads only."""

from collections.abc import Iterator
from typing import Final

from lifecycle.database import Connection, value
from lifecycle.language import Phrase, translatable
from lifecycle.partitions.catalog import TableStructure
from lifecycle.partitions.changed import changed_statements
from lifecycle.partitions.phrases import phrases
from lifecycle.partitions.refusals import REALTIME
from lifecycle.partitions.statements import upserts_by_old_key
from lifecycle.partitions.tables import MonthlyTable

OTHER_PARENTS_IN_PUBLICATION: Final = (
    translatable(
        "publication {publication}: changes will be published under partition names, because"
        " publish_via_partition_root is off and the publication holds other partitioned tables"
    ),
    """
select p.pubname as publication from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
 where r.prrelid = %(oid)s and not p.pubviaroot and exists (
    select from pg_publication_rel o join pg_class c on c.oid = o.prrelid
     where o.prpubid = p.oid and c.relkind = 'p' and o.prrelid <> r.prrelid)
""",
)
# Publications of a whole schema: the table follows, under the names of its partitions unless told otherwise.
SCHEMA_PUBLICATIONS: Final = (
    translatable(
        "publication {publication} of schema {schema}: changes will be published under partition names; run"
        " ALTER PUBLICATION {publication} SET (publish_via_partition_root = true)"
    ),
    """
select p.pubname as publication, n.nspname as schema
  from pg_publication_namespace s join pg_publication p on p.oid = s.pnpubid join pg_namespace n on n.oid = s.pnnspid
 where not p.pubviaroot and s.pnnspid = (select relnamespace from pg_class where oid = %(oid)s)
""",
)
RESTRICTING_KEYS: Final = (
    translatable(
        "while months are built, a row of {table} may not be deleted right after its last event: foreign key"
        " {constraint} checks the copies too"
    ),
    """
select confrelid::regclass::text as table, conname as constraint
  from pg_constraint where conrelid = %(oid)s and contype = 'f' and confdeltype in ('a', 'r')
""",
)
INVALID_INDEXES: Final = (
    translatable("index {index} is invalid and will not be kept"),
    """
select indexrelid::regclass::text as index from pg_index
 where indrelid = %(oid)s and not indisvalid and indexrelid::regclass::text not like '%%\\_legacy\\_pkey'
""",
)
CLUSTERED: Final = (
    translatable("CLUSTER without an index fails: {index} is not marked any more; write CLUSTER ... USING it"),
    "select indexrelid::regclass::text as index from pg_index where indrelid = %(oid)s and indisclustered",
)
# The others have no right in the schema where the parent waits.
GRANTED_BY_OTHERS: Final = (
    translatable("what {grantor} granted to others will be granted by {owner}"),
    """
select distinct pg_get_userbyid(a.grantor) as grantor, pg_get_userbyid(c.relowner) as owner
  from pg_class c cross join lateral (
    select * from aclexplode(c.relacl) union all
    select x.* from pg_attribute t, aclexplode(t.attacl) x where t.attrelid = c.oid) a
 where c.oid = %(oid)s and a.grantor <> c.relowner
""",
)
# Row triggers are copied to each partition and fire there.
ROW_TRIGGERS_THAT_LOOK: Final = (
    translatable("row trigger {trigger} looks at {variables}, which will be that of the partition"),
    """
select t.tgname as trigger,
       (select string_agg(distinct upper(m[1]), ', ')
          from regexp_matches(p.prosrc, '\\m(tg_(?:relid|relname|table_name|table_schema))\\M', 'gi') m) as variables
  from pg_trigger t join pg_proc p on p.oid = t.tgfoid
 where t.tgrelid = %(oid)s and not t.tgisinternal and t.tgtype & 1 = 1
   and p.prosrc ~* '\\mtg_(relid|relname|table_name|table_schema)\\M'
 order by t.tgname
""",
)
AFTER_UPDATE_TRIGGERS: Final = (
    translatable(
        "an UPDATE that moves a row to another month fires no AFTER UPDATE row trigger ({triggers}) but those of DELETE"
        " and INSERT"
    ),
    """
select string_agg(tgname, ', ' order by tgname) as triggers
  from pg_trigger where tgrelid = %(oid)s and not tgisinternal and tgtype & 19 = 17 having count(*) > 0
""",
)
SWITCHED_PUBLICATIONS: Final = (
    translatable(
        "publication {publication}: publish_via_partition_root is switched on, so that changes keep the table's name;"
        " subscribers run ALTER SUBSCRIPTION ... REFRESH PUBLICATION WITH (copy_data = false)"
    ),
    """
select p.pubname as publication from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
 where r.prrelid = %(oid)s and p.pubname <> 'supabase_realtime' order by p.pubname
""",
)
STATEMENT_STATISTICS: Final = (
    translatable("pg_stat_statements counts the statements on it anew, since the table gets another number (OID)"),
    "select from pg_extension where extname = 'pg_stat_statements'",
)
MIGRATIONS_AFTERWARDS: Final = "docs/reference/partitioned-tables.md"
# Each row of a query is a warning; %(oid)s is the table.
WARNINGS: Final = (
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


def warnings(conn: Connection, table: MonthlyTable, old: TableStructure) -> list[Phrase]:
    """What keeps working differently after the conversion."""
    found = list(_of_the_key(conn, table, old))
    failing = tuple(Phrase(each.what) for each in changed_statements(conn.info.server_version // 10_000))
    instead = translatable("will fail in migrations: {statements}; what to write instead: {page}")
    found.append(Phrase(instead, statements=failing, page=MIGRATIONS_AFTERWARDS))
    params = {"oid": old.oid}
    if publication := value(conn, REALTIME, params):
        found.append(
            Phrase(
                "publication {publication}: Supabase's Realtime will deliver no change of this table any more",
                publication=publication,
            )
        )
    return found + [each for text, query in WARNINGS for each in phrases(conn, text, query, params)]


def _of_the_key(conn: Connection, table: MonthlyTable, old: TableStructure) -> Iterator[Phrase]:
    if table.time_column in old.primary_key or not old.primary_key:
        return
    key, new_key = ", ".join(old.primary_key), ", ".join(old.new_key(table.time_column))
    yield Phrase("INSERT ... ON CONFLICT ({key}) will fail; write ON CONFLICT ({new_key})", key=key, new_key=new_key)
    yield Phrase(
        "the key becomes ({new_key}): the same {key} with another {column} is accepted",
        key=key,
        new_key=new_key,
        column=table.time_column,
    )
    for upsert in upserts_by_old_key(conn, table, old.primary_key):
        yield Phrase("would fail: {upsert}", upsert=upsert)
    yield Phrase(
        "UPDATE and DELETE by {key} alone visit every partition; add {column} to the condition",
        key=key,
        column=table.time_column,
    )
