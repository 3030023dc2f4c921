"""What is open and no declaration names: this project's own schemas, partitions, definer functions, new tables."""

from dataclasses import dataclass
from typing import Final

from lifecycle.access_policies.declared import RELATIONS, ROUTINES
from lifecycle.access_policies.model import ANON, API_ROLES, COMPARED_ROLES, PUBLIC
from lifecycle.database import Connection, rows
from lifecycle.policy import ERASURE, PARTITION_SCHEMA, STATE_SCHEMA

OWN_SCHEMAS: Final = (STATE_SCHEMA, PARTITION_SCHEMA)
HELPERS: Final = "private"

# Grants on anything in our schemas; partitions that can be touched directly, or whose parent alone is guarded.
OURS: Final = """
with reader as (
    select 0::oid as oid, 'public' as name union all
    select r.oid, r.rolname from pg_roles r where r.rolname = any (%(readers)s)
)
select 'schema ' || n.nspname, r.name || ' has ' || a.privilege_type
  from pg_namespace n cross join lateral aclexplode(n.nspacl) a join reader r on r.oid = a.grantee
 where n.nspname = any (%(schemas)s)
    or n.nspname = %(helpers)s and obj_description(n.oid, 'pg_namespace') like 'lifecycle: %%'
union all
select format('%%I.%%I', n.nspname, c.relname), r.name || ' may ' || a.privilege_type
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 cross join lateral (select * from aclexplode(c.relacl)
                      union all select e.* from pg_attribute t cross join lateral aclexplode(t.attacl) e
                                 where t.attrelid = c.oid) a
  join reader r on r.oid = a.grantee
 where n.nspname = any (%(schemas)s) and a.grantee <> c.relowner
union all
select p.oid::regprocedure::text, r.name || ' may EXECUTE'
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a join reader r on r.oid = a.grantee
 where n.nspname = any (%(schemas)s) and a.grantee <> p.proowner
union all
select c.oid::regclass::text, 'row-level security is off, and the table it is a partition of has it'
  from pg_class c join pg_inherits i on i.inhrelid = c.oid join pg_class parent on parent.oid = i.inhparent
 where c.relispartition and c.relkind in ('r', 'p') and parent.relrowsecurity and not c.relrowsecurity
union all
select c.oid::regclass::text, r.name || ' may ' || a.privilege_type || ' in a partition directly'
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 cross join lateral aclexplode(c.relacl) a join reader r on r.oid = a.grantee
 where c.relispartition and c.relkind in ('r', 'p', 'f') and n.nspname <> all (%(schemas)s) and a.grantee <> c.relowner
union all
select p.oid::regprocedure::text, 'runs with its owner''s rights, and its search_path is not empty'
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where p.prosecdef and n.nspname = any (array[%(helpers)s] || %(schemas)s)
   and not coalesce(p.proconfig, '{}') && array['search_path=""', 'search_path=']
union all
select p.oid::regprocedure::text, format('its owner %%s does not pass row-level security by', o.rolname)
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_roles o on o.oid = p.proowner
 where p.prosecdef and n.nspname = %(helpers)s and not (o.rolbypassrls or o.rolsuper)
order by 1, 2
"""

# In public and in schemas of the application: what nobody declared and the API reaches.
UNDECLARED: Final = """
select c.oid::regclass::text,
       format('%%s may %%s, %%s', string_agg(distinct r.rolname, ' and '), string_agg(distinct v.verb, ', '),
              case when c.relkind = 'm' then 'and a materialized view knows no row-level security'
                   when c.relkind = 'v' and not coalesce(c.reloptions, '{}')
                            && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1']
                       then 'and it reads with its owner''s rights'
                   when c.relkind in ('r', 'p') and not c.relrowsecurity then 'without row-level security'
                   else 'by its own policies' end)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_roles r on r.rolname = any (%(api)s)
  join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) v(verb)
    on has_table_privilege(r.oid, c.oid, v.verb)
 where n.nspname = 'public' and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
   and 'public.' || c.relname <> all (%(relations)s)
   and not exists (select from pg_depend d
                    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
 group by c.oid, c.relkind, c.reloptions, c.relrowsecurity
union all
select p.oid::regprocedure::text,
       format('runs with its owner''s rights, and %%s may EXECUTE', string_agg(r.rolname, ' and ' order by r.rolname))
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_roles r on r.rolname = any (%(api)s)
 where p.prosecdef and p.prorettype <> 'trigger'::regtype and n.nspname !~ '^(pg_|information_schema)'
   and n.nspname <> all (array[%(helpers)s] || %(schemas)s || %(managed)s)
   and n.nspname || '.' || p.proname <> all (%(routines)s)
   and has_schema_privilege(r.oid, n.oid, 'USAGE') and has_function_privilege(r.oid, p.oid, 'EXECUTE')
   and not exists (select from pg_depend d
                    where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
 group by p.oid
order by 1, 2
"""

# Of declared tables those whose every row the API reads or changes although they are on the map of personal data.
OPEN_PERSONAL_DATA: Final = """
select c.oid::regclass::text,
       (select string_agg(v, ', ') from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) v
         where has_table_privilege(r.oid, c.oid, v))
  from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.rolname = %s
 where c.relkind in ('r', 'p') and not c.relrowsecurity and n.nspname = 'public' and not c.relispartition
   and has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
   and exists (select from lifecycle.erasure_steps s where to_regclass(s.table_name) = c.oid)
 order by 1
"""


@dataclass(frozen=True)
class Exposure:
    """An object and how it is open."""

    object: str
    told: str


def own_exposures(conn: Connection) -> tuple[Exposure, ...]:
    """What of our schemas, of partitions and of policies' helpers is open or careless; empty when nothing."""
    readers = [PUBLIC, *COMPARED_ROLES, "service_role"]
    found = rows(conn, OURS, {"readers": readers, "schemas": list(OWN_SCHEMAS), "helpers": HELPERS})
    return tuple(Exposure(*row) for row in found)


def undeclared_exposures(conn: Connection) -> tuple[Exposure, ...]:
    """Tables, views and definer functions of the application that the API reaches and nobody declared."""
    found = rows(
        conn,
        UNDECLARED,
        {
            "api": list(API_ROLES),
            "relations": [relation.qualified_name for relation in RELATIONS],
            "routines": [routine.qualified_name for routine in ROUTINES],
            "helpers": HELPERS,
            "schemas": list(OWN_SCHEMAS),
            "managed": list(ERASURE.managed_schemas),
        },
    )
    return tuple(Exposure(*row) for row in found)


def open_personal_data(conn: Connection) -> tuple[Exposure, ...]:
    """Tables with rows of persons that anybody may reach whole: no row-level security, and a grant to anon."""
    return tuple(
        Exposure(name, f"anon may {verbs}, every row") for name, verbs in rows(conn, OPEN_PERSONAL_DATA, (ANON,))
    )
