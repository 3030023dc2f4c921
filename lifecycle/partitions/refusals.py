"""Why an event table cannot be partitioned, and what will change for the application's statements. Reads only."""

import re

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.partitions.catalog import Names, TableStructure
from lifecycle.partitions.changed import changed_statements
from lifecycle.partitions.dependents import affected_dependents, ambiguous_names, names_kept_by_the_server
from lifecycle.partitions.statements import upserts_by_old_key
from lifecycle.partitions.tables import PARTITION_SCHEMA, MonthlyTable

# A statement of PL/pgSQL that sets the column of the new row, or the row as a whole. `=` compares, but not where a
# statement begins.
BEGINNING = r"(^|;|\m(begin|then|else|loop)\M)\s*"
ASSIGNMENT = (
    rf'{BEGINNING}new(\s*[.]\s*"?{{column}}"?)?\s*:?=|'
    r'\minto\s+(strict\s+)?([\w."]+\s*,\s*)*new(\s*[.]\s*"?{column}"?\M|\s*(;|\mfrom\M|$))'
)
# Each row is a reason; %(oid)s is the table. What PostgreSQL cannot keep on a partitioned table, or we do not.
REFUSALS = (
    (
        "select format('foreign key %%s of %%s points at it; drop that constraint or point it elsewhere', conname,"
        " conrelid::regclass) from pg_constraint where confrelid = %(oid)s and contype = 'f' and conparentid = 0"
    ),
    (
        "select format('unique index %%s does not hold %%s, so PostgreSQL cannot enforce it across partitions;"
        " drop it or make it a plain index', i.indexrelid::regclass, %(time_column)s::text) from pg_index i"
        " where i.indrelid = %(oid)s and i.indisunique and not i.indisprimary and not exists ("
        "   select from pg_attribute a where a.attrelid = i.indrelid and a.attname = %(time_column)s"
        "    and a.attnum = any (i.indkey))"
    ),
    (
        "select format('exclusion constraint %%s cannot be kept on a partitioned table; drop it first', conname)"
        " from pg_constraint where conrelid = %(oid)s and contype = 'x'"
    ),
    (
        "select format('constraint %%s is NOT VALID; run ALTER TABLE ... VALIDATE CONSTRAINT first', conname)"
        " from pg_constraint where conrelid = %(oid)s and not convalidated"
    ),
    (
        "select format('constraint %%s is NO INHERIT, which a partitioned table cannot have', conname)"
        " from pg_constraint where conrelid = %(oid)s and contype = 'c' and connoinherit"
    ),
    (
        "select format('publication %%s is FOR ALL TABLES and would send the copies to its subscribers; list its"
        " tables', pubname) from pg_publication where puballtables"
    ),
    (
        # A partition chosen by the old value cannot take the row with the new one.
        "select format('trigger %%s sets %%s before the row is stored, which PostgreSQL refuses on a partition;"
        " set it in the application or as a default', t.tgname, %(time_column)s::text) from pg_trigger t"
        " join pg_proc p on p.oid = t.tgfoid where t.tgrelid = %(oid)s and not t.tgisinternal and t.tgtype & 3 = 3"
        " and regexp_replace(p.prosrc, '--[^\\n]*|/[*].*?[*]/', ' ', 'g') ~* %(assignment)s"
    ),
    (
        "select format('rule %%s: rules cannot follow the table; replace it by a trigger', rulename)"
        " from pg_rewrite where ev_class = %(oid)s and rulename <> '_RETURN'"
    ),
    (
        "select format('trigger %%s has transition tables for each row, which a partitioned table cannot have;"
        " make it a statement trigger', tgname) from pg_trigger where tgrelid = %(oid)s and not tgisinternal"
        " and tgtype & 1 = 1 and (tgoldtable is not null or tgnewtable is not null)"
    ),
    (
        "select format('it inherits from, or is inherited by, %%s; detach that first',"
        " case when inhrelid = %(oid)s then inhparent::regclass else inhrelid::regclass end)"
        " from pg_inherits where %(oid)s in (inhrelid, inhparent)"
    ),
    (
        # A row type is an OID too: a function that returns the table's rows cannot be told of a new table.
        "select format('%%s uses the row type of the table; change it to RETURNS TABLE (...) or a type of its own',"
        " pg_describe_object(d.classid, d.objid, d.objsubid)) from pg_depend d join pg_type t on d.refclassid ="
        " 'pg_type'::regclass and d.refobjid in (t.oid, t.typarray) where t.typrelid = %(oid)s and d.deptype = 'n'"
    ),
    (
        # GROUP BY id alone is valid only while id is the key.
        "select format('%%s depends on the primary key (GROUP BY the key alone); name all columns in its GROUP BY',"
        " coalesce(r.ev_class::regclass::text, pg_describe_object(d.classid, d.objid, 0))) from pg_depend d"
        " join pg_constraint k on d.refclassid = 'pg_constraint'::regclass and d.refobjid = k.oid"
        " left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid"
        " where k.conrelid = %(oid)s and k.contype = 'p' and d.deptype = 'n'"
    ),
    (
        "select format('rule %%s of %%s writes or reads it; replace the rule by a trigger', r.rulename,"
        " r.ev_class::regclass)"
        " from pg_depend d join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid"
        " join pg_class c on c.oid = r.ev_class where d.refclassid = 'pg_class'::regclass and d.refobjid = %(oid)s"
        " and c.relkind not in ('v', 'm') and c.oid <> %(oid)s group by r.rulename, r.ev_class"
    ),
    (
        # A partitioned table holds no row of its own.
        "select format('%%s reads it with ONLY, which would be empty; drop the word', v.reader::regclass) from ("
        "   select distinct r.ev_class as reader from pg_depend d"
        "   join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid"
        "   where d.refclassid = 'pg_class'::regclass and d.refobjid = %(oid)s offset 0) v"
        " where pg_get_viewdef(v.reader) ~ ('\\mONLY ([^ ]+\\.)?\"?' || %(name)s || '\\M')"
    ),
    (
        "select format('function %%s reads it and belongs to role %%s, so it cannot be switched', p.oid::regprocedure,"
        " pg_get_userbyid(p.proowner)) from pg_proc p where not pg_has_role(p.proowner, 'usage') and p.oid in ("
        "   select d.objid from pg_depend d where d.classid = 'pg_proc'::regclass"
        "    and d.refclassid = 'pg_class'::regclass and d.refobjid = %(oid)s)"
    ),
    (
        "select format('publication %%s is owned by %%s; a member of that role must run the conversion', p.pubname,"
        " pg_get_userbyid(p.pubowner)) from pg_publication_rel r join pg_publication p on p.oid = r.prpubid"
        " where r.prrelid = %(oid)s and not pg_has_role(p.pubowner, 'usage')"
    ),
)
# Names that the conversion needs for a while. What stands there and is no unfinished work of ours stays untouched.
TAKEN_NAMES = """
select format('%%s already exists, and the conversion needs that name; finish the conversion of the other table of'
              ' that name, or rename it', c.oid::regclass)
  from pg_class c
 where c.relnamespace = to_regnamespace(%(partitions)s) and c.relname = any (%(waiting)s)
 union all
select format('%%s already exists, and the conversion needs that name; rename it', c.oid::regclass)
  from pg_class c left join pg_index i on i.indexrelid = c.oid
 where c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) and c.relname = %(index)s
   and not coalesce(i.indrelid = %(oid)s and i.indisunique and i.indpred is null and %(key)s::name[] = array(
        select a.attname from unnest(i.indkey) with ordinality k(number, place)
          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number order by k.place), false)
"""
OTHER_PARENTS_IN_PUBLICATION = """
select format('publication %%s: changes will be published under partition names, because'
              ' publish_via_partition_root is off and the publication holds other partitioned tables', p.pubname)
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
 where r.prrelid = %(oid)s and not p.pubviaroot and exists (
    select from pg_publication_rel o join pg_class c on c.oid = o.prrelid
     where o.prpubid = p.oid and c.relkind = 'p' and o.prrelid <> r.prrelid)
"""
BYPASSES_ROW_SECURITY = "select rolsuper or rolbypassrls from pg_roles where rolname = current_user"
# Publications of a whole schema: the table follows, under the names of its partitions unless told otherwise.
SCHEMA_PUBLICATIONS = """
select format('publication %%s of schema %%s: changes will be published under partition names; run'
              ' ALTER PUBLICATION %%s SET (publish_via_partition_root = true)', p.pubname, n.nspname, p.pubname)
  from pg_publication_namespace s join pg_publication p on p.oid = s.pnpubid join pg_namespace n on n.oid = s.pnnspid
 where not p.pubviaroot and s.pnnspid = (select relnamespace from pg_class where oid = %(oid)s)
"""
# wal2json, which Realtime polls, writes the partition's name and knows no publish_via_partition_root.
REALTIME = """
select format('publication %%s: Supabase''s Realtime will deliver no change of this table any more', p.pubname)
  from pg_publication p where p.pubname = 'supabase_realtime' and exists (
    select from pg_publication_tables t join pg_class c on c.relname = t.tablename
      join pg_namespace n on n.oid = c.relnamespace and n.nspname = t.schemaname
     where t.pubname = p.pubname and c.oid = %(oid)s)
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
MIGRATIONS_AFTERWARDS = "docs/reference/partitioned-tables.md"
KNOWN = """
select exists (select from lifecycle.event_table_policies where schema_name = %s and table_name = %s)
"""


def migrated(conn: Connection) -> bool:
    """Whether `lifecycle migrate` has been run on this database with event tables declared."""
    return bool(value(conn, "select to_regclass('lifecycle.event_table_policies') is not null"))


def known(conn: Connection, table: MonthlyTable) -> bool:
    """Whether `lifecycle migrate` has told the database of this table."""
    return migrated(conn) and bool(value(conn, KNOWN, (table.schema, table.name)))


def refusals(conn: Connection, table: MonthlyTable, old: TableStructure) -> list[str]:
    """Reasons to refuse, each with what to do about it; empty when the table can be converted."""
    found: list[str] = []
    if old.kind != "r":
        found.append("it is no ordinary table")
    if old.persistence != "p":
        found.append("it is unlogged or temporary, and would lose rows in a crash")
    if not old.owned_by_us:
        found.append(f"it belongs to role {old.owner}; connect as that role or a member of it")
    if not old.primary_key:
        found.append("it has no primary key, so changes made during the copy could not be replayed")
    time_column = next((column for column in old.columns if column.name == table.time_column), None)
    if time_column is None:
        found.append(f"it has no column {table.time_column}")
    elif time_column.type != "timestamp with time zone":
        found.append(f"column {table.time_column} must be timestamptz NOT NULL, and is {time_column.type}")
    elif not time_column.not_null:
        found.append(
            f"column {table.time_column} must be timestamptz NOT NULL, and may be null; run ALTER COLUMN"
            f" {sql.Identifier(table.time_column).as_string(conn)} SET NOT NULL first"
        )
    elif time_column.generated:
        found.append(f"column {table.time_column} is generated, which a partition key cannot be")
    if old.force_row_security and not value(conn, BYPASSES_ROW_SECURITY):
        found.append("FORCE ROW LEVEL SECURITY hides its rows from its owner; convert it as a role with BYPASSRLS")
    found += [
        f"column {column.name} draws its values from a sequence that would go with the old table"
        for column in old.columns
        if column.identity or column.sequence
    ]
    params = {
        "oid": old.oid,
        "time_column": table.time_column,
        "name": re.escape(table.name),
        "assignment": ASSIGNMENT.format(column=re.escape(table.time_column)),
    }
    for query in REFUSALS:
        found += [row[0] for row in rows(conn, query, params)]
    affected = affected_dependents(conn, old.oid)
    found += [
        f"{view.qualified_name} reads it and belongs to another role, so it cannot be switched"
        for view in affected
        if not view.owned_by_us
    ]
    found += names_kept_by_the_server(conn, table, affected)
    found += [row[0] for row in rows(conn, TAKEN_NAMES, _our_names(table, old))]
    return found + ambiguous_names(conn, old.oid, affected)


def _our_names(table: MonthlyTable, old: TableStructure) -> dict[str, object]:
    names = Names(table)
    return {
        "oid": old.oid,
        "schema": table.schema,
        "waiting": [table.name, names.legacy_name],
        "partitions": PARTITION_SCHEMA,
        "index": names.new_key_index,
        "key": list(old.new_key(table.time_column)),
    }


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
    found += [row[0] for row in rows(conn, OTHER_PARENTS_IN_PUBLICATION, params)]
    found += [row[0] for row in rows(conn, SCHEMA_PUBLICATIONS, params)]
    found += [row[0] for row in rows(conn, REALTIME, params)]
    found += [row[0] for row in rows(conn, RESTRICTING_KEYS, params)]
    found += [row[0] for row in rows(conn, INVALID_INDEXES, params)]
    return found
