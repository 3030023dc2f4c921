"""Why an event table cannot be partitioned. Reads only."""

import re
from collections.abc import Iterator
from typing import Final

from lifecycle.database import Connection, value
from lifecycle.language import Phrase, translatable
from lifecycle.names import quoted
from lifecycle.partitions.catalog import Names, TableStructure
from lifecycle.partitions.dependents import affected_dependents, ambiguous_names, names_kept_by_the_server
from lifecycle.partitions.phrases import phrases
from lifecycle.partitions.stamping import triggers_that_set
from lifecycle.partitions.tables import PARTITION_SCHEMA, MonthlyTable
from lifecycle.partitions.time_types import unfit_type

# Each row of a query is a reason; %(oid)s is the table. What PostgreSQL cannot keep on a partitioned one, or we do not.
REFUSALS: Final = (
    (
        translatable("foreign key {constraint} of {table} points at it; drop that constraint or point it elsewhere"),
        "select conname as constraint, conrelid::regclass::text as table from pg_constraint"
        " where confrelid = %(oid)s and contype = 'f' and conparentid = 0",
    ),
    (
        translatable(
            "unique index {index} does not hold {column}, so PostgreSQL cannot enforce it across partitions;"
            " drop it or make it a plain index"
        ),
        "select i.indexrelid::regclass::text as index, %(time_column)s::text as column from pg_index i"
        " where i.indrelid = %(oid)s and i.indisunique and not i.indisprimary and not exists ("
        "   select from pg_attribute a where a.attrelid = i.indrelid and a.attname = %(time_column)s"
        "    and a.attnum = any (i.indkey))",
    ),
    (
        translatable("exclusion constraint {constraint} cannot be kept on a partitioned table; drop it first"),
        "select conname as constraint from pg_constraint where conrelid = %(oid)s and contype = 'x'",
    ),
    (
        translatable("constraint {constraint} is NOT VALID; run ALTER TABLE ... VALIDATE CONSTRAINT first"),
        "select conname as constraint from pg_constraint where conrelid = %(oid)s and not convalidated",
    ),
    (
        translatable("constraint {constraint} is NO INHERIT, which a partitioned table cannot have"),
        "select conname as constraint from pg_constraint where conrelid = %(oid)s and contype = 'c' and connoinherit",
    ),
    (
        translatable(
            "publication {publication} is FOR ALL TABLES and would send the copies to its subscribers; list its tables"
        ),
        "select pubname as publication from pg_publication where puballtables",
    ),
    (
        # Neither a copy's CHECK nor its index can be given another table's row.
        translatable("constraint {constraint} checks the row as a whole; name its columns instead"),
        "select conname as constraint from pg_constraint"
        " where conrelid = %(oid)s and contype = 'c' and conbin::text ~ ':varattno 0 '",
    ),
    (
        translatable("index {index} is of the row as a whole; name its columns instead"),
        "select indexrelid::regclass::text as index from pg_index where indrelid = %(oid)s"
        " and (indexprs::text ~ ':varattno 0 ' or indpred::text ~ ':varattno 0 ')",
    ),
    (
        translatable("it is a table of type {type}; run ALTER TABLE ... NOT OF first"),
        "select reloftype::regtype::text as type from pg_class where oid = %(oid)s and reloftype <> 0",
    ),
    (
        translatable("rule {rule}: rules cannot follow the table; replace it by a trigger"),
        "select rulename as rule from pg_rewrite where ev_class = %(oid)s and rulename <> '_RETURN'",
    ),
    (
        translatable(
            "trigger {trigger} has transition tables for each row, which a partitioned table cannot have; make it a"
            " statement trigger"
        ),
        "select tgname as trigger from pg_trigger where tgrelid = %(oid)s and not tgisinternal"
        " and tgtype & 1 = 1 and (tgoldtable is not null or tgnewtable is not null)",
    ),
    (
        translatable("it inherits from, or is inherited by, {table}; detach that first"),
        "select (case when inhrelid = %(oid)s then inhparent else inhrelid end)::regclass::text as table"
        " from pg_inherits where %(oid)s in (inhrelid, inhparent)",
    ),
    (
        # A row type is an OID too: a function that returns the table's rows cannot be told of a new table.
        translatable("{object} uses the row type of the table; change it to RETURNS TABLE (...) or a type of its own"),
        "select pg_describe_object(d.classid, d.objid, d.objsubid) as object from pg_depend d"
        " join pg_type t on d.refclassid = 'pg_type'::regclass and d.refobjid in (t.oid, t.typarray)"
        " where t.typrelid = %(oid)s and d.deptype = 'n'",
    ),
    (
        # GROUP BY id alone is valid only while id is the key.
        translatable("{object} depends on the primary key (GROUP BY the key alone); name all columns in its GROUP BY"),
        "select coalesce(r.ev_class::regclass::text, pg_describe_object(d.classid, d.objid, 0)) as object"
        " from pg_depend d join pg_constraint k on d.refclassid = 'pg_constraint'::regclass and d.refobjid = k.oid"
        " left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid"
        " where k.conrelid = %(oid)s and k.contype = 'p' and d.deptype = 'n'",
    ),
    (
        translatable("rule {rule} of {table} writes or reads it; replace the rule by a trigger"),
        "select r.rulename as rule, r.ev_class::regclass::text as table"
        " from pg_depend d join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid"
        " join pg_class c on c.oid = r.ev_class where d.refclassid = 'pg_class'::regclass and d.refobjid = %(oid)s"
        " and c.relkind not in ('v', 'm') and c.oid <> %(oid)s group by r.rulename, r.ev_class",
    ),
    (
        # A partitioned table holds no row of its own.
        translatable("{view} reads it with ONLY, which would be empty; drop the word"),
        "select v.reader::regclass::text as view from ("
        "   select distinct r.ev_class as reader from pg_depend d"
        "   join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid"
        "   where d.refclassid = 'pg_class'::regclass and d.refobjid = %(oid)s offset 0) v"
        " where pg_get_viewdef(v.reader) ~ ('\\mONLY ([^ ]+\\.)?\"?' || %(name)s || '\\M')",
    ),
    (
        translatable("function {function} reads it and belongs to role {owner}, so it cannot be switched"),
        "select p.oid::regprocedure::text as function, pg_get_userbyid(p.proowner) as owner from pg_proc p"
        " where not pg_has_role(p.proowner, 'usage') and p.oid in ("
        "   select d.objid from pg_depend d where d.classid = 'pg_proc'::regclass"
        "    and d.refclassid = 'pg_class'::regclass and d.refobjid = %(oid)s)",
    ),
    (
        translatable("publication {publication} is owned by {owner}; a member of that role must run the conversion"),
        "select p.pubname as publication, pg_get_userbyid(p.pubowner) as owner"
        " from pg_publication_rel r join pg_publication p on p.oid = r.prpubid"
        " where r.prrelid = %(oid)s and not pg_has_role(p.pubowner, 'usage')",
    ),
)
# Names that the conversion needs for a while. What stands there and is no unfinished work of ours stays untouched.
TAKEN_NAMES: Final = (
    (
        translatable(
            "{name} already exists, and the conversion needs that name; finish the conversion of the other table of"
            " that name, or rename it"
        ),
        "select c.oid::regclass::text as name from pg_class c"
        " where c.relnamespace = to_regnamespace(%(partitions)s) and c.relname = any (%(waiting)s)",
    ),
    (
        translatable("{name} already exists, and the conversion needs that name; rename it"),
        "select c.oid::regclass::text as name from pg_class c left join pg_index i on i.indexrelid = c.oid"
        " where c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) and c.relname = %(index)s"
        " and not coalesce(i.indrelid = %(oid)s and i.indisunique and i.indpred is null and %(key)s::name[] = array("
        "    select a.attname from unnest(i.indkey) with ordinality k(number, place)"
        "      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number order by k.place), false)",
    ),
)
BYPASSES_ROW_SECURITY = "select rolsuper or rolbypassrls from pg_roles where rolname = current_user"
# wal2json, which Realtime polls, writes the partition's name and knows no publish_via_partition_root.
REALTIME = """
select p.pubname::text from pg_publication p where p.pubname = 'supabase_realtime' and exists (
    select from pg_publication_tables t join pg_class c on c.relname = t.tablename
      join pg_namespace n on n.oid = c.relnamespace and n.nspname = t.schemaname
     where t.pubname = p.pubname and c.oid = %(oid)s)
"""
KNOWN = """
select exists (select from lifecycle.event_table_policies where schema_name = %s and table_name = %s)
"""


def migrated(conn: Connection) -> bool:
    """Whether `lifecycle migrate` has been run on this database with event tables declared."""
    return bool(value(conn, "select to_regclass('lifecycle.event_table_policies') is not null"))


def known(conn: Connection, table: MonthlyTable) -> bool:
    """Whether `lifecycle migrate` has told the database of this table."""
    return migrated(conn) and bool(value(conn, KNOWN, (table.schema, table.name)))


def refusals(conn: Connection, table: MonthlyTable, old: TableStructure) -> list[Phrase]:
    """Reasons to refuse, each with what to do about it; empty when the table can be converted."""
    found = [*_of_the_table(old), *_of_the_time_column(table, old)]
    if old.force_row_security and not value(conn, BYPASSES_ROW_SECURITY):
        found.append(
            Phrase("FORCE ROW LEVEL SECURITY hides its rows from its owner; convert it as a role with BYPASSRLS")
        )
    found += [
        Phrase(
            "trigger {trigger} sets {column} before the row is stored, which PostgreSQL refuses on a partition;"
            " set it in the application or as a default",
            trigger=trigger,
            column=table.time_column,
        )
        for trigger in triggers_that_set(conn, old.oid, table.time_column)
    ]
    if not table.accept_no_realtime and (publication := value(conn, REALTIME, {"oid": old.oid})):
        found.append(
            Phrase(
                "publication {publication}: Supabase's Realtime would deliver no change of it any more. Broadcast from"
                " the database instead (a trigger that calls realtime.broadcast_changes) and write"
                " accept_no_realtime: true in event_tables.yaml, or take the table out of the publication",
                publication=publication,
            )
        )
    params = {
        "oid": old.oid,
        "time_column": table.time_column,
        "name": re.escape(table.name),
    }
    for text, query in REFUSALS:
        found += phrases(conn, text, query, params)
    affected = affected_dependents(conn, old.oid)
    found += [
        Phrase("{view} reads it and belongs to another role, so it cannot be switched", view=view.qualified_name)
        for view in affected
        if not view.owned_by_us
    ]
    found += names_kept_by_the_server(conn, table, affected)
    for text, query in TAKEN_NAMES:
        found += phrases(conn, text, query, _our_names(table, old))
    return found + ambiguous_names(conn, old.oid, affected)


def _of_the_table(old: TableStructure) -> Iterator[Phrase]:
    if old.kind != "r":
        yield Phrase("it is no ordinary table")
    if old.persistence != "p":
        yield Phrase("it is unlogged or temporary, and would lose rows in a crash")
    if not old.owned_by_us:
        yield Phrase("it belongs to role {owner}; connect as that role or a member of it", owner=old.owner)
    if not old.primary_key:
        yield Phrase("it has no primary key, so changes made during the copy could not be replayed")


def _of_the_time_column(table: MonthlyTable, old: TableStructure) -> Iterator[Phrase]:
    name = table.time_column
    column = next((column for column in old.columns if column.name == name), None)
    if column is None:
        yield Phrase("it has no column {column}", column=name)
    elif (told := unfit_type(table, column.type)) is not None:
        yield told
    elif not column.not_null:
        yield Phrase(
            "column {column} may be null, and a row without a time belongs to no month; give such rows one (UPDATE"
            " {table} SET {quoted} = ... WHERE {quoted} IS NULL), then run ALTER TABLE {table} ALTER COLUMN {quoted}"
            " SET NOT NULL",
            column=name,
            table=table.qualified_name,
            quoted=quoted(name),
        )
    elif column.generated:
        yield Phrase("column {column} is generated, which a partition key cannot be", column=name)


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
