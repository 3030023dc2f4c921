"""Who may do what according to the catalog, now."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from lifecycle.access.model import COMPARED_ROLES, PUBLIC, SERVICE_ROLE
from lifecycle.database import Connection, rows

EXISTING_ROLES: Final = "select rolname::text from pg_roles where rolname = any (%s)"
# Views, tables and their partitions' parents; partitions are looked at by exposures.
RELATIONS: Final = """
select n.nspname::text || '.' || c.relname, format('%%I.%%I', n.nspname, c.relname), c.relkind::text, c.relrowsecurity,
       pg_has_role(c.relowner, 'usage'), pg_get_userbyid(c.relowner)::text,
       exists (select from unnest(c.reloptions) o
                where o in ('security_invoker=true', 'security_invoker=on', 'security_invoker=1')),
       array(select r.rolname::text from pg_roles r
              where c.relkind in ('r', 'p') and not (r.rolsuper or r.rolbypassrls) and r.rolname !~ '^pg_'
                and r.rolname <> all (%s) and not pg_has_role(r.oid, c.relowner, 'usage')
                and has_table_privilege(r.oid, c.oid, 'select') order by 1)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'public' and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
   and not exists (select from pg_depend d
                    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
"""
# Privileges on columns stand as "SELECT (first, second)".
PRIVILEGES: Final = """
select n.nspname::text || '.' || c.relname, case when a.grantee = 0 then 'public' else r.rolname::text end,
       a.privilege_type::text
           || coalesce(' (' || string_agg(quote_ident(a.attname), ', ' order by a.attnum) || ')', ''),
       a.is_grantable
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 cross join lateral (
    select null::name as attname, null::int2 as attnum, e.* from aclexplode(c.relacl) e
     union all
    select t.attname, t.attnum, e.* from pg_attribute t cross join lateral aclexplode(t.attacl) e
     where t.attrelid = c.oid) a
  left join pg_roles r on r.oid = a.grantee
 where n.nspname = 'public' and c.relkind in ('r', 'p', 'v', 'm', 'f')
   and (a.grantee = 0 or r.rolname = any (%s)) and a.grantee <> c.relowner
 group by n.nspname, c.relname, a.grantee, r.rolname, a.privilege_type, a.is_grantable, a.attname is null
"""
# However it is printed: with or without its schema, wrapped in a SELECT or not.
SERVICE_ONLY: Final = r"^\(?\s*(select )?(public\.)?is_service_role\(\)( as is_service_role)?\)?$"
POLICIES: Final = """
select n.nspname::text || '.' || c.relname, p.polname::text,
       format('%%s for %%s to %%s%%s%%s', case when p.polpermissive then 'permissive' else 'restrictive' end,
              case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete'
                            else 'all' end,
              array(select case when r = 0 then 'public' else r::regrole::text end
                      from unnest(p.polroles) r order by 1),
              ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
              ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'),
       p.polname like 'lifecycle: %%',
       p.polroles = '{0}' and coalesce(pg_get_expr(p.polqual, p.polrelid), '') ~* %s
  from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'public'
"""
ROUTINES: Final = """
select n.nspname::text || '.' || p.proname, p.oid::regprocedure::text, pg_has_role(p.proowner, 'usage'),
       pg_get_userbyid(p.proowner)::text,
       array(select case when a.grantee = 0 then 'public' else r.rolname::text end
               from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
               left join pg_roles r on r.oid = a.grantee
              where (a.grantee = 0 or r.rolname = any (%(roles)s)) and a.grantee <> p.proowner),
       array(select r.rolname::text from aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
              where a.is_grantable and r.rolname = any (%(roles)s) and a.grantee <> p.proowner)
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where n.nspname in ('public', 'private')
   and not exists (select from pg_depend d
                    where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
"""


def verb_of(privilege: str) -> str:
    """The privilege without its columns."""
    return privilege.partition(" (")[0]


@dataclass(frozen=True)
class LivePolicy:
    """A policy as PostgreSQL prints it; `ours` by its name; `service_only`: open to all, true for the back end."""

    definition: str
    ours: bool
    service_only: bool


@dataclass(frozen=True)
class LiveRelation:
    """A relation of schema public. `privileges`: role, then privilege, then whether it may be passed on.

    `other_readers` are roles beside those of the API that may read it and do not pass row-level security by.
    """

    name: str
    identifier: str
    kind: str
    row_security: bool
    is_ours_to_change: bool
    owner: str
    reads_as_caller: bool
    other_readers: list[str] = field(default_factory=list)
    privileges: dict[str, dict[str, bool]] = field(default_factory=dict)
    policies: dict[str, LivePolicy] = field(default_factory=dict)

    def verbs(self, role: str) -> frozenset[str]:
        """What a role may do, on some columns at least, also through PUBLIC."""
        return frozenset(verb_of(held) for grantee in (role, PUBLIC) for held in self.privileges.get(grantee, {}))


@dataclass(frozen=True)
class LiveRoutine:
    """A function of schema public or private; which of the roles we look at may execute it, and which pass that on."""

    name: str
    signature: str
    is_ours_to_change: bool
    owner: str
    executors: frozenset[str]
    passing_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Catalog:
    """What is there: roles, relations of schema public, functions of public and private."""

    roles: frozenset[str]
    relations: dict[str, LiveRelation]
    routines: tuple[LiveRoutine, ...]


@contextmanager
def printed_in_full(conn: Connection) -> Iterator[None]:
    """A transaction in which conditions are printed with every schema, whatever the session's search_path."""
    with conn.transaction():
        conn.execute("select set_config('search_path', '', true)")
        yield


def read_catalog(conn: Connection) -> Catalog:
    """One look at roles, grants, policies and functions. Call it inside `printed_in_full`."""
    looked_at = [*COMPARED_ROLES, SERVICE_ROLE]
    roles = frozenset(row[0] for row in rows(conn, EXISTING_ROLES, (looked_at,)))
    relations = {row[0]: LiveRelation(*row) for row in rows(conn, RELATIONS, (looked_at,))}
    for name, role, privilege, grantable in rows(conn, PRIVILEGES, (looked_at,)):
        if name in relations:
            relations[name].privileges.setdefault(role, {})[privilege] = grantable
    for name, policy, *found in rows(conn, POLICIES, (SERVICE_ONLY,)):
        if name in relations:
            relations[name].policies[policy] = LivePolicy(*found)
    routines = tuple(
        LiveRoutine(name, signature, changeable, owner, frozenset(executors), frozenset(passing_on))
        for name, signature, changeable, owner, executors, passing_on in rows(conn, ROUTINES, {"roles": looked_at})
    )
    return Catalog(roles, relations, routines)


def by_name(catalog: Catalog) -> dict[str, list[LiveRoutine]]:
    """Functions of one name together: a declaration is for all of them."""
    found: dict[str, list[LiveRoutine]] = defaultdict(list)
    for routine in catalog.routines:
        found[routine.name].append(routine)
    return found
