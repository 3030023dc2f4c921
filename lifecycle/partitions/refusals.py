"""Why an event table cannot be partitioned. Reads only."""

import re

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.partitions.catalog import Names, TableStructure
from lifecycle.partitions.dependents import affected_dependents, ambiguous_names, names_kept_by_the_server
from lifecycle.partitions.stamping import triggers_that_set
from lifecycle.partitions.tables import PARTITION_SCHEMA, MonthlyTable

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
        # Neither a copy's CHECK nor its index can be given another table's row.
        "select format('constraint %%s checks the row as a whole; name its columns instead', conname)"
        " from pg_constraint where conrelid = %(oid)s and contype = 'c' and conbin::text ~ ':varattno 0 '"
    ),
    (
        "select format('index %%s is of the row as a whole; name its columns instead', indexrelid::regclass)"
        " from pg_index where indrelid = %(oid)s"
        " and (indexprs::text ~ ':varattno 0 ' or indpred::text ~ ':varattno 0 ')"
    ),
    (
        "select format('it is a table of type %%s; run ALTER TABLE ... NOT OF first', reloftype::regtype)"
        " from pg_class where oid = %(oid)s and reloftype <> 0"
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
BYPASSES_ROW_SECURITY = "select rolsuper or rolbypassrls from pg_roles where rolname = current_user"
# wal2json, which Realtime polls, writes the partition's name and knows no publish_via_partition_root.
REALTIME = """
select p.pubname::text from pg_publication p where p.pubname = 'supabase_realtime' and exists (
    select from pg_publication_tables t join pg_class c on c.relname = t.tablename
      join pg_namespace n on n.oid = c.relnamespace and n.nspname = t.schemaname
     where t.pubname = p.pubname and c.oid = %(oid)s)
"""
NO_REALTIME = (
    "publication {publication}: Supabase's Realtime would deliver no change of it any more. Broadcast from the database"
    " instead (a trigger that calls realtime.broadcast_changes) and write accept_no_realtime: true in"
    " event_tables.yaml, or take the table out of the publication"
)
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
        f"trigger {trigger} sets {table.time_column} before the row is stored, which PostgreSQL refuses on a partition;"
        " set it in the application or as a default"
        for trigger in triggers_that_set(conn, old.oid, table.time_column)
    ]
    if not table.accept_no_realtime and (publication := value(conn, REALTIME, {"oid": old.oid})):
        found.append(NO_REALTIME.format(publication=publication))
    params = {
        "oid": old.oid,
        "time_column": table.time_column,
        "name": re.escape(table.name),
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
