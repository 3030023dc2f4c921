"""Read the application's schema from its catalog, in the form of application_schema.json.

Make the snapshot anew after the application changed its schema, from a database as the application has it:
    python -m assets.schema_snapshot postgresql://...
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from lifecycle.database import Connection, connect, rows

RELATIONS: Final = """
select c.oid, c.relname,
       case c.relkind when 'v' then 'view' when 'm' then 'materialized_view' else 'table' end,
       obj_description(c.oid, 'pg_class')
  from pg_class c
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
   and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
 order by c.relkind in ('v', 'm'), c.relname
"""
COLUMNS: Final = """
select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, col_description(a.attrelid, a.attnum),
       exists (select from pg_index i
                where i.indrelid = a.attrelid and i.indisunique and i.indpred is null
                  and i.indnkeyatts = 1 and i.indkey[0] = a.attnum),
       array(select case k.contype when 'p' then 'primary key'
                    else 'references ' || (select f.relname from pg_class f where f.oid = k.confrelid) end
               from pg_constraint k
              where k.conrelid = a.attrelid and k.contype in ('p', 'f') and a.attnum = any (k.conkey)
                and k.conparentid = 0
              order by 1)
  from pg_attribute a
 where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
 order by a.attnum
"""
READS: Final = """
select distinct s.relname
  from pg_rewrite r
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
                  and d.refclassid = 'pg_class'::regclass
  join pg_class s on s.oid = d.refobjid and s.oid <> r.ev_class
 where r.ev_class = %s and s.relnamespace = 'public'::regnamespace
 order by 1
"""


def _column(row: tuple[Any, ...]) -> dict[str, Any]:
    name, data_type, not_null, comment, unique, constraints = row
    facts = {"not_null": not_null, "unique": unique, "constraints": constraints, "comment": comment}
    return {"name": name, "type": data_type} | {key: value for key, value in facts.items() if value}


def schema_snapshot(conn: Connection) -> list[dict[str, Any]]:
    """The tables, then the views of schema `public`: name, kind, comment, what a view reads, columns."""
    snapshot = []
    for oid, name, kind, comment in rows(conn, RELATIONS):
        relation: dict[str, Any] = {"name": name, "kind": kind}
        if comment:
            relation["comment"] = comment
        if reads := [row[0] for row in rows(conn, READS, (oid,))]:
            relation["reads"] = reads
        snapshot.append(relation | {"columns": [_column(row) for row in rows(conn, COLUMNS, (oid,))]})
    return snapshot


def snapshot_text(conn: Connection) -> str:
    """The snapshot as it stands in application_schema.json: one column a line, so that changes read well."""
    relations = []
    for relation in schema_snapshot(conn):
        head = json.dumps({key: value for key, value in relation.items() if key != "columns"}, ensure_ascii=False)
        columns = ",\n".join(f"    {json.dumps(column, ensure_ascii=False)}" for column in relation["columns"])
        relations.append(f'{head[:-1]}, "columns": [\n{columns}\n  ]}}')
    return "[\n  " + ",\n  ".join(relations) + "\n]\n"


if __name__ == "__main__":
    with connect(sys.argv[1]) as connection:
        Path(__file__).with_name("application_schema.json").write_text(snapshot_text(connection), encoding="utf-8")
