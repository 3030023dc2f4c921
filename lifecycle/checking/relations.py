"""The application's tables and views with their columns, from the catalog, in the form of schema.json."""

import json
from typing import Any, Final

from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.declarations.relations import Relation, RelationColumn
from lifecycle.names import QualifiedName
from lifecycle.views.age import without_age

# Schemas whose relations are ours.
OWN_SCHEMAS: Final = ("lifecycle", "event_partitions")
RELATIONS: Final = """
select c.oid::bigint, n.nspname::text, c.relname::text,
       case c.relkind when 'v' then 'view' when 'm' then 'materialized_view' else 'table' end,
       coalesce(obj_description(c.oid, 'pg_class'), '')
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
   and n.nspname <> all (%s) and n.nspname not like 'pg\\_%%' and n.nspname <> 'information_schema'
   and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
 order by c.relkind in ('v', 'm'), n.nspname, c.relname
"""
COLUMNS: Final = """
select a.attrelid::bigint, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       coalesce(col_description(a.attrelid, a.attnum), ''),
       exists (select from pg_index i
                where i.indrelid = a.attrelid and i.indisunique and i.indpred is null
                  and i.indnkeyatts = 1 and i.indkey[0] = a.attnum),
       array(select case k.contype when 'p' then 'primary key' else
                    (select format('references %%I.%%I', n.nspname, f.relname)
                       from pg_class f join pg_namespace n on n.oid = f.relnamespace where f.oid = k.confrelid) end
               from pg_constraint k
              where k.conrelid = a.attrelid and k.contype in ('p', 'f') and a.attnum = any (k.conkey)
                and k.conparentid = 0
              order by 1)
  from pg_attribute a
 where a.attrelid = any (%s) and a.attnum > 0 and not a.attisdropped
 order by a.attrelid, a.attnum
"""
READS: Final = """
select distinct r.ev_class::bigint, n.nspname::text, s.relname::text
  from pg_rewrite r
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
                  and d.refclassid = 'pg_class'::regclass
  join pg_class s on s.oid = d.refobjid and s.oid <> r.ev_class
  join pg_namespace n on n.oid = s.relnamespace
 where r.ev_class = any (%s)
 order by 1, 2, 3
"""


def live_relations(conn: Connection, application: Application) -> tuple[Relation, ...]:
    """The tables, then the views of all schemas that are neither the platform's nor ours, without partitions."""
    left_out = [*application.database.managed_schemas, *OWN_SCHEMAS]
    found = rows(conn, RELATIONS, (left_out,))
    oids = [oid for oid, *_ in found]
    columns: dict[int, list[RelationColumn]] = {oid: [] for oid in oids}
    for oid, name, data_type, not_null, comment, unique, constraints in rows(conn, COLUMNS, (oids,)):
        columns[oid].append(
            RelationColumn(
                name=name, type=data_type, not_null=not_null, unique=unique, constraints=constraints, comment=comment
            )
        )
    reads: dict[int, list[QualifiedName]] = {oid: [] for oid in oids}
    for oid, schema, name in rows(conn, READS, (oids,)):
        reads[oid].append(QualifiedName(schema, name))
    return tuple(
        Relation(
            name=QualifiedName(schema, name),
            kind=kind,
            comment=without_age(comment) or "",
            reads=tuple(reads[oid]),
            columns=tuple(columns[oid]),
        )
        for oid, schema, name, kind, comment in found
    )


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def relations_text(relations: tuple[Relation, ...]) -> str:
    """schema.json: one column a line, so that changes read well."""
    told = []
    for relation in relations:
        values = relation.model_dump(mode="json", exclude_defaults=True)
        columns = ",\n".join(f"    {_line(column)}" for column in values.pop("columns", []))
        told.append(f'{_line(values)[:-1]}, "columns": [\n{columns}\n  ]}}')
    return "[\n  " + ",\n  ".join(told) + "\n]\n"
