"""What the database has: relations with their columns, and functions; read once for all comparisons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lifecycle.database import Connection, rows
from lifecycle.names import QualifiedName

RELATIONS: Final = """
select n.nspname::text, c.relname::text, c.relkind::text,
       coalesce(json_object_agg(a.attname, format_type(a.atttypid, a.atttypmod) order by a.attnum)
                filter (where a.attname is not null), '{}')
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
   and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
 group by n.nspname, c.relname, c.relkind
"""
FUNCTIONS: Final = """
select n.nspname::text, p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
"""


@dataclass(frozen=True)
class LiveRelation:
    """One relation: its kind as pg_class says it, and the type of each column."""

    kind: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Catalog:
    """All relations that are no partitions, and the names of all functions, outside of PostgreSQL's own schemas."""

    relations: Mapping[QualifiedName, LiveRelation]
    functions: frozenset[QualifiedName]


def read_catalog(conn: Connection) -> Catalog:
    """Two queries, whatever the number of objects."""
    return Catalog(
        relations={
            QualifiedName(schema, name): LiveRelation(kind, columns)
            for schema, name, kind, columns in conn.execute(RELATIONS.encode()).fetchall()
        },
        functions=frozenset(QualifiedName(schema, name) for schema, name in rows(conn, FUNCTIONS)),
    )
