"""Who may do what according to the catalog, now."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from lifecycle.access.model import COMPARED_ROLES, PUBLIC, SERVICE_ROLE, Declared
from lifecycle.database import Connection, rows, value
from lifecycle.names import QualifiedName

EXISTING_ROLES: Final = "select rolname::text from pg_roles where rolname = any (%(roles)s)"
KNOWS_OWN: Final = "select to_regclass('lifecycle.own_functions') is not null"
OWN: Final = "select signature from lifecycle.own_functions"
# Views, tables and their partitions' parents; partitions are looked at by exposures.
RELATIONS: Final = """
select n.nspname::text, c.relname::text, format('%%I.%%I', n.nspname, c.relname), c.relkind::text, c.relrowsecurity,
       pg_has_role(c.relowner, 'usage'), pg_get_userbyid(c.relowner)::text,
       exists (select from unnest(c.reloptions) o
                where o in ('security_invoker=true', 'security_invoker=on', 'security_invoker=1')),
       array(select r.rolname::text from pg_roles r
              where c.relkind in ('r', 'p') and not (r.rolsuper or r.rolbypassrls) and r.rolname !~ '^pg_'
                and r.rolname <> all (%(roles)s) and not pg_has_role(r.oid, c.relowner, 'usage')
                and has_table_privilege(r.oid, c.oid, 'select') order by 1)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any (%(schemas)s) and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
   and not exists (select from pg_depend d
                    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
"""
# Privileges on columns stand as "SELECT (first, second)".
PRIVILEGES: Final = """
select n.nspname::text, c.relname::text, case when a.grantee = 0 then 'public' else r.rolname::text end,
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
 where n.nspname = any (%(schemas)s) and c.relkind in ('r', 'p', 'v', 'm', 'f')
   and (a.grantee = 0 or r.rolname = any (%(roles)s)) and a.grantee <> c.relowner
 group by n.nspname, c.relname, a.grantee, r.rolname, a.privilege_type, a.is_grantable, a.attname is null
"""
POLICIES: Final = """
select n.nspname::text, c.relname::text, p.polname::text,
       format('%%s for %%s to %%s%%s%%s', case when p.polpermissive then 'permissive' else 'restrictive' end,
              case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete'
                            else 'all' end,
              array(select case when r = 0 then 'public' else r::regrole::text end
                      from unnest(p.polroles) r order by 1),
              ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
              ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'),
       p.polname like 'lifecycle: %%',
       p.polroles = '{0}' and coalesce(pg_get_expr(p.polqual, p.polrelid), '') ~* %(service_only)s
  from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any (%(schemas)s)
"""
ROUTINES: Final = """
select n.nspname::text, p.proname::text, p.oid::regprocedure::text, pg_has_role(p.proowner, 'usage'),
       pg_get_userbyid(p.proowner)::text,
       array(select case when a.grantee = 0 then 'public' else r.rolname::text end
               from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
               left join pg_roles r on r.oid = a.grantee
              where (a.grantee = 0 or r.rolname = any (%(roles)s)) and a.grantee <> p.proowner),
       array(select r.rolname::text from aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
              where a.is_grantable and r.rolname = any (%(roles)s) and a.grantee <> p.proowner),
       quote_ident(n.nspname) || '.' || quote_ident(p.proname)
       || '(' || pg_get_function_identity_arguments(p.oid) || ')'
           = any (%(own)s)
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where n.nspname = any (%(schemas)s)
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
    """A table or view. `privileges`: role, then privilege, then whether it may be passed on.

    `other_readers` are roles beside those of the API that may read it and do not pass row-level security by.
    """

    name: QualifiedName
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
    """A function; which of the roles we look at may execute it, and which pass that on; `ours`: a migration made it."""

    name: QualifiedName
    signature: str
    is_ours_to_change: bool
    owner: str
    executors: frozenset[str]
    passing_on: frozenset[str] = frozenset()
    ours: bool = False


@dataclass(frozen=True)
class Catalog:
    """What is there: roles, and relations and functions of the schemas that were looked at."""

    roles: frozenset[str]
    relations: dict[QualifiedName, LiveRelation]
    routines: tuple[LiveRoutine, ...]


@contextmanager
def printed_in_full(conn: Connection) -> Iterator[None]:
    """A transaction in which conditions are printed with every schema, whatever the session's search_path.

    Within another transaction the path is given back, as it would stay until that one ends.
    """
    with conn.transaction():
        before = value(conn, "select current_setting('search_path')")
        conn.execute("select set_config('search_path', '', true)")
        yield
        conn.execute("select set_config('search_path', %s, true)", (before,))


def read_catalog(conn: Connection, declared: Declared) -> Catalog:
    """One look at roles, grants, policies and functions of the schemas declared. Call it inside `printed_in_full`."""
    known = value(conn, KNOWS_OWN)
    own = [signature for (signature,) in rows(conn, OWN)] if known else []
    looked_at = [*COMPARED_ROLES, SERVICE_ROLE]
    params = {"roles": looked_at, "schemas": declared.schemas, "service_only": declared.service_only, "own": own}
    roles = frozenset(row[0] for row in rows(conn, EXISTING_ROLES, params))
    relations: dict[QualifiedName, LiveRelation] = {}
    for schema, relation, *found in rows(conn, RELATIONS, params):
        name = QualifiedName(schema, relation)
        relations[name] = LiveRelation(name, *found)
    for schema, relation, role, privilege, grantable in rows(conn, PRIVILEGES, params):
        if live := relations.get(QualifiedName(schema, relation)):
            live.privileges.setdefault(role, {})[privilege] = grantable
    for schema, relation, policy, *found in rows(conn, POLICIES, params):
        if live := relations.get(QualifiedName(schema, relation)):
            live.policies[policy] = LivePolicy(*found)
    routines = tuple(
        LiveRoutine(
            QualifiedName(schema, name), signature, changeable, owner, frozenset(executors), frozenset(passing_on), ours
        )
        for schema, name, signature, changeable, owner, executors, passing_on, ours in rows(conn, ROUTINES, params)
    )
    return Catalog(roles, relations, routines)


def by_name(catalog: Catalog) -> dict[QualifiedName, list[LiveRoutine]]:
    """Functions of one name together: a declaration is for all of them."""
    found: dict[QualifiedName, list[LiveRoutine]] = defaultdict(list)
    for routine in catalog.routines:
        found[routine.name].append(routine)
    return found
