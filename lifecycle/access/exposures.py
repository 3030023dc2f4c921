"""What is open and no declaration names: this project's own schemas, partitions, definer functions, new tables."""

from dataclasses import dataclass
from typing import Final

from lifecycle.access.declared import HELPERS, OWN_ROUTINES, RELATIONS, ROUTINES
from lifecycle.access.live import printed_in_full
from lifecycle.access.model import ANON, API_ROLES, COMPARED_ROLES, PUBLIC, SERVICE_ROLE
from lifecycle.database import Connection, rows
from lifecycle.policy import ERASURE, PARTITION_SCHEMA, STATE_SCHEMA

OWN_SCHEMAS: Final = (STATE_SCHEMA, PARTITION_SCHEMA)
HELPER_SCHEMA: Final = "private"

# What is open, how, and the statement that closes it where that is ours to do: grants on anything in our schemas;
# partitions that can be touched directly, or whose parent alone is guarded; functions of ours that run with other
# rights than they were made with; roles of the API that may do more than a policy can hold back.
OURS: Final = """
with reader as (
    select 0::oid as oid, 'public' as name, 'public' as grantee union all
    select r.oid, r.rolname, format('%%I', r.rolname) from pg_roles r where r.rolname = any (%(readers)s)
), own_function as (
    select p.*, p.oid::regprocedure::text as signature, n.nspname
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = any (%(schemas)s) or n.nspname || '.' || p.proname = any (%(routines)s)
), found (object, told, cure, owner) as (
select 'schema ' || n.nspname, r.name || ' has ' || a.privilege_type,
       format('revoke %%s on schema %%I from %%s cascade', a.privilege_type, n.nspname, r.grantee), n.nspowner
  from pg_namespace n cross join lateral aclexplode(n.nspacl) a join reader r on r.oid = a.grantee
 where n.nspname = any (%(schemas)s)
    or n.nspname = %(helpers)s and obj_description(n.oid, 'pg_namespace') like 'lifecycle: %%'
union all
select format('%%I.%%I', n.nspname, c.relname), r.name || ' may ' || a.privilege_type || a.columns,
       format('revoke %%s%%s on %%s %%I.%%I from %%s cascade', a.privilege_type, a.columns,
              case c.relkind when 'S' then 'sequence' else 'table' end, n.nspname, c.relname, r.grantee), c.relowner
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 cross join lateral (select e.*, '' as columns from aclexplode(c.relacl) e
                      union all select e.*, format(' (%%I)', t.attname)
                        from pg_attribute t cross join lateral aclexplode(t.attacl) e where t.attrelid = c.oid) a
  join reader r on r.oid = a.grantee
 where n.nspname = any (%(schemas)s) and a.grantee <> c.relowner
union all
select p.signature, r.name || ' may EXECUTE',
       format('revoke execute on routine %%s from %%s cascade', p.signature, r.grantee), p.proowner
  from own_function p
 cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a join reader r on r.oid = a.grantee
 where p.nspname = any (%(schemas)s) and a.grantee <> p.proowner
union all
select c.oid::regclass::text, 'row-level security is off, and the table it is a partition of has it',
       format('alter table %%s enable row level security', c.oid::regclass), c.relowner
  from pg_class c join pg_inherits i on i.inhrelid = c.oid join pg_class parent on parent.oid = i.inhparent
 where c.relispartition and c.relkind in ('r', 'p') and parent.relrowsecurity and not c.relrowsecurity
union all
select c.oid::regclass::text, r.name || ' may ' || a.privilege_type || ' in a partition directly', null, c.relowner
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 cross join lateral aclexplode(c.relacl) a join reader r on r.oid = a.grantee
 where c.relispartition and c.relkind in ('r', 'p', 'f') and n.nspname <> all (%(schemas)s) and a.grantee <> c.relowner
union all
select p.signature, 'its search_path is not empty',
       format('alter routine %%s set search_path = %%L', p.signature, ''), p.proowner
  from own_function p
 where p.prokind = 'f' and (p.prosecdef or p.nspname <> all (%(schemas)s))
   and not coalesce(p.proconfig, '{}') && array['search_path=""', 'search_path=']
union all
select p.signature, 'runs with its owner''s rights, not with the caller''s',
       format('alter routine %%s security invoker', p.signature), p.proowner
  from own_function p where p.prosecdef and p.nspname = 'public'
union all
select p.signature, format('its owner %%s does not pass row-level security by', o.rolname), null, p.proowner
  from own_function p join pg_roles o on o.oid = p.proowner
 where p.prosecdef and p.nspname = %(helpers)s and not (o.rolbypassrls or o.rolsuper)
union all
select 'role ' || r.rolname, 'passes row-level security by', null, r.oid
  from pg_roles r where r.rolname = any (%(compared)s) and (r.rolbypassrls or r.rolsuper)
union all
select 'role ' || r.rolname, 'is a member of ' || g.rolname, null, r.oid
  from pg_auth_members m join pg_roles r on r.oid = m.member join pg_roles g on g.oid = m.roleid
 where r.rolname = any (%(compared)s)
)
select object, told, case when pg_has_role(owner, 'usage') then cure end from found order by 1, 2
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
    on case when v.verb in ('DELETE', 'TRUNCATE') then has_table_privilege(r.oid, c.oid, v.verb)
            else has_any_column_privilege(r.oid, c.oid, v.verb) end
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

# Without row-level security: tables on the map of personal data that anybody reaches, and others that anybody changes.
OPEN_TO_ANYBODY: Final = """
select c.oid::regclass::text,
       (select string_agg(v, ', ') from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) v
         where has_table_privilege(r.oid, c.oid, v)),
       m.personal
  from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.rolname = %s
 cross join lateral (
       select exists (select from lifecycle.erasure_steps s where to_regclass(s.table_name) = c.oid) as personal) m
 where c.relkind in ('r', 'p') and not c.relrowsecurity and n.nspname = 'public' and not c.relispartition
   and (has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE')
        or m.personal and has_table_privilege(r.oid, c.oid, 'SELECT'))
 order by m.personal desc, 1
"""


@dataclass(frozen=True)
class Exposure:
    """An object and how it is open; `cure` is the statement of `lifecycle migrate`, where closing it is ours to do."""

    object: str
    told: str
    cure: str | None = None


def own_exposures(conn: Connection) -> tuple[Exposure, ...]:
    """What of our schemas, of partitions and of policies' helpers is open or careless; empty when nothing."""
    params = {
        "readers": [PUBLIC, *COMPARED_ROLES, SERVICE_ROLE],
        "compared": list(COMPARED_ROLES),
        "schemas": list(OWN_SCHEMAS),
        "helpers": HELPER_SCHEMA,
        "routines": [routine.qualified_name for routine in (*OWN_ROUTINES, *HELPERS)],
    }
    with printed_in_full(conn):
        return tuple(Exposure(*row) for row in rows(conn, OURS, params))


def undeclared_exposures(conn: Connection) -> tuple[Exposure, ...]:
    """Tables, views and definer functions of the application that the API reaches and nobody declared."""
    found = rows(
        conn,
        UNDECLARED,
        {
            "api": list(API_ROLES),
            "relations": [relation.qualified_name for relation in RELATIONS],
            "routines": [routine.qualified_name for routine in ROUTINES],
            "helpers": HELPER_SCHEMA,
            "schemas": list(OWN_SCHEMAS),
            "managed": list(ERASURE.managed_schemas),
        },
    )
    return tuple(Exposure(*row) for row in found)


def tables_open_to_anybody(conn: Connection) -> tuple[Exposure, ...]:
    """Tables without row-level security that anon may change, or read although they hold rows of persons."""
    return tuple(
        Exposure(name, f"anon may {verbs}, every row{', of persons' if personal else ''}")
        for name, verbs, personal in rows(conn, OPEN_TO_ANYBODY, (ANON,))
    )
