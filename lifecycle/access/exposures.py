"""What is open that should not be: our own schemas, partitions and functions; tables that anybody may change."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lifecycle.access.live import printed_in_full
from lifecycle.access.model import ANON, COMPARED_ROLES, HELPER_SCHEMA, PUBLIC, SERVICE_ROLE, Declared
from lifecycle.database import Connection, rows
from lifecycle.migrating.revisions import STATE_SCHEMA
from lifecycle.partitions.tables import PARTITION_SCHEMA

OWN_SCHEMAS: Final = (STATE_SCHEMA, PARTITION_SCHEMA)

# What is open, how, and the statement that closes it where that is ours to do: grants on anything in our schemas;
# partitions that can be touched directly, or elsewhere whose parent alone is guarded; functions of ours that run with
# other rights than they were made with; roles of the API that may do more than a policy can hold back.
OURS: Final = """
with reader as (
    select 0::oid as oid, 'public' as name, 'public' as grantee union all
    select r.oid, r.rolname, format('%%I', r.rolname) from pg_roles r where r.rolname = any (%(readers)s)
), function as (
    select p.*, n.nspname, quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '('
                           || pg_get_function_identity_arguments(p.oid) || ')' as signature
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
), own_function as (
    select p.*, coalesce(o.file like 'application/%%', false) as theirs
      from function p left join lifecycle.own_functions o using (signature)
     where p.nspname = any (%(schemas)s) or o.signature is not null
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
 where not p.theirs and a.grantee <> p.proowner
   and %(executors)s::jsonb is not null and not coalesce(%(executors)s::jsonb -> p.signature, '[]') ? r.name::text
union all
select c.oid::regclass::text, 'row-level security is off, and the table it is a partition of has it',
       format('alter table %%s enable row level security', c.oid::regclass), c.relowner
  from pg_class c join pg_inherits i on i.inhrelid = c.oid join pg_class parent on parent.oid = i.inhparent
 where c.relispartition and c.relkind in ('r', 'p') and parent.relrowsecurity and not c.relrowsecurity
   and c.relnamespace::regnamespace::text <> all (%(schemas)s)
union all
select c.oid::regclass::text, r.name || ' may ' || a.privilege_type || ' in a partition directly', null, c.relowner
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 cross join lateral aclexplode(c.relacl) a join reader r on r.oid = a.grantee
 where c.relispartition and c.relkind in ('r', 'p', 'f') and n.nspname <> all (%(schemas)s) and a.grantee <> c.relowner
union all
select p.signature, 'its search_path is not empty',
       format('alter routine %%s set search_path = %%L', p.signature, ''), p.proowner
  from own_function p
 where p.prokind = 'f' and (p.prosecdef or p.nspname <> all (%(schemas)s)) and not p.theirs
   and not coalesce(p.proconfig, '{}') && array['search_path=""', 'search_path=']
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
# Without row-level security a privilege to change is one to change everybody's rows.
OPEN_TO_ANYBODY: Final = """
select format('%%I.%%I', n.nspname, c.relname),
       (select string_agg(v, ', ') from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) v
         where has_table_privilege(r.oid, c.oid, v))
  from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.rolname = %(anon)s
 where c.relkind in ('r', 'p') and not c.relrowsecurity and n.nspname = any (%(schemas)s) and not c.relispartition
   and has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE')
 order by 1
"""


@dataclass(frozen=True)
class Exposure:
    """An object and how it is open; `cure` is the statement of `lifecycle migrate`, where closing it is ours to do."""

    object: str
    told: str
    cure: str | None = None


def own_exposures(conn: Connection, executors: Mapping[str, Sequence[str]] | None) -> tuple[Exposure, ...]:
    """What of our schemas, of partitions and of functions of ours is open or careless; empty when nothing.

    `executors` says by signature which roles may execute a function of ours; None: that is not asked. Needs a migrated
    database.
    """
    params = {
        "readers": [PUBLIC, *COMPARED_ROLES, SERVICE_ROLE],
        "compared": list(COMPARED_ROLES),
        "schemas": list(OWN_SCHEMAS),
        "helpers": HELPER_SCHEMA,
        "executors": None
        if executors is None
        else json.dumps({name: list(roles) for name, roles in executors.items()}),
    }
    with printed_in_full(conn):
        return tuple(Exposure(*row) for row in rows(conn, OURS, params))


def tables_open_to_anybody(conn: Connection, declared: Declared) -> tuple[Exposure, ...]:
    """Tables without row-level security that anon may change, every row of them."""
    with printed_in_full(conn):
        found = rows(conn, OPEN_TO_ANYBODY, {"anon": ANON, "schemas": declared.exposed_schemas})
    return tuple(Exposure(name, f"anon may {verbs}, every row") for name, verbs in found)
