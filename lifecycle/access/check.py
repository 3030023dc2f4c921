"""Declarations against the catalog: what the API reaches and nobody declared, and what is declared and not there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from lifecycle.access.declared import declared_access
from lifecycle.access.exposures import OWN_SCHEMAS, Exposure
from lifecycle.access.live import printed_in_full, read_catalog
from lifecycle.access.model import API_ROLES, HELPER_SCHEMA, VERBS
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.access import BY_ITS_POLICIES, EVERY_ROW, AccessDeclarations, Kind, Rule
from lifecycle.declarations.application import Application
from lifecycle.names import QualifiedName

FILE: Final = "access.yaml"
# In public and in schemas of the application: what nobody declared and the API reaches.
UNDECLARED: Final = """
select n.nspname::text, c.relname::text, c.relkind::text, c.relrowsecurity,
       exists (select from pg_policy p where p.polrelid = c.oid), c.oid::regclass::text,
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
 where n.nspname = any (%(exposed)s) and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
   and format('%%I.%%I', n.nspname, c.relname) <> all (%(relations)s)
   and not exists (select from pg_depend d
                    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
 group by n.nspname, c.oid, c.relname, c.relkind, c.reloptions, c.relrowsecurity
union all
select n.nspname::text, p.proname::text, 'function', false, false, p.oid::regprocedure::text,
       format('runs with its owner''s rights, and %%s may EXECUTE', string_agg(r.rolname, ' and ' order by r.rolname))
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_roles r on r.rolname = any (%(api)s)
 where p.prosecdef and p.prorettype <> 'trigger'::regtype and n.nspname !~ '^(pg_|information_schema)'
   and n.nspname <> all (array[%(helpers)s] || %(schemas)s || %(managed)s)
   and format('%%I.%%I', n.nspname, p.proname) <> all (%(routines)s)
   and quote_ident(n.nspname) || '.' || quote_ident(p.proname)
       || '(' || pg_get_function_identity_arguments(p.oid) || ')'
       <> all (%(own)s)
   and has_schema_privilege(r.oid, n.oid, 'USAGE') and has_function_privilege(r.oid, p.oid, 'EXECUTE')
   and not exists (select from pg_depend d
                    where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
 group by n.nspname, p.oid, p.proname
order by 1, 2
"""

KNOWS_OWN: Final = "select to_regclass('lifecycle.own_functions') is not null"
OWN: Final = "select signature from lifecycle.own_functions where file not like 'application/%'"


@dataclass(frozen=True)
class AccessFinding:
    """An object that access.yaml and the catalog do not agree about, and a line for that file where there is one.

    `section` is the part of the file that the line belongs to.
    """

    object: str
    told: str
    section: Literal["relations", "routines"]
    line: str = ""


def undeclared_objects(
    conn: Connection, application: Application, also: Sequence[str] = ()
) -> tuple[AccessFinding, ...]:
    """Tables, views and definer functions that the API's roles reach and access.yaml does not name. Changes nothing.

    `also` are schemas to look into beside those of declared objects. The line proposed for a table or view that
    is guarded takes it as it is; for any other it closes it.
    """
    declared = declared_access(application)
    own = [signature for (signature,) in rows(conn, OWN)] if value(conn, KNOWS_OWN) else []
    params = {
        "api": list(API_ROLES),
        "exposed": [*declared.exposed_schemas, *also],
        "relations": [str(name) for name in application.access.relations],
        "routines": [str(routine.name) for routine in declared.routines],
        "own": own,
        "helpers": HELPER_SCHEMA,
        "schemas": list(OWN_SCHEMAS),
        "managed": list(application.database.managed_schemas),
    }
    with printed_in_full(conn):
        found = rows(conn, UNDECLARED, params)
    return tuple(_undeclared(application.access, *row) for row in found)


def _undeclared(
    declared: AccessDeclarations,
    schema: str,
    name: str,
    kind: str,
    row_security: bool,
    policies: bool,
    printed: str,
    told: str,
) -> AccessFinding:
    qualified = QualifiedName(schema, name)
    if kind == "function":
        return AccessFinding(printed, told, "routines", f"{qualified}: {{roles: []}}")
    proposal = _proposal(declared, kind, guarded=row_security and policies)
    return AccessFinding(printed, told, "relations", f"{qualified}: {proposal}")


def _proposal(declared: AccessDeclarations, kind: str, *, guarded: bool) -> str:
    """The kind of the file that says so, or what it would say."""
    rules: tuple[Rule, ...] = ()
    if guarded:
        rules = (Rule(roles=API_ROLES, verbs=VERBS, rows=BY_ITS_POLICIES),)
    elif kind in ("v", "m"):
        rules = (Rule(roles=("ops",), verbs=("SELECT",), rows=EVERY_ROW, granted=True),)
    wanted = Kind(access=rules, row_security=kind in ("r", "p"))
    for name, known in declared.kinds.items():
        if known.model_copy(update={"why": ""}) == wanted:
            return f"{{kind: {name}}}"
    said = [f"row_security: {json.dumps(wanted.row_security)}"] if wanted.row_security else []
    said.append(f"access: [{', '.join(map(_rule, rules))}]")
    return f"{{{', '.join(said)}}}"


def _rule(rule: Rule) -> str:
    granted = ", granted: true" if rule.granted else ""
    return f"{{roles: [{', '.join(rule.roles)}], verbs: [{', '.join(rule.verbs)}], rows: {rule.rows}{granted}}}"


def missing_objects(conn: Connection, application: Application) -> tuple[AccessFinding, ...]:
    """Tables, views and functions that access.yaml names, that are not optional, and that do not exist."""
    declared = declared_access(application)
    with printed_in_full(conn):
        catalog = read_catalog(conn, declared)
    named = {routine.name for routine in catalog.routines}
    relations = (one for one in declared.relations if one.name not in catalog.relations and not one.optional)
    # Our own are made by `lifecycle migrate`, which tells what is gone of them.
    said = application.access.routines
    routines = (one for one in declared.routines if one.name in said and one.name not in named and not one.optional)
    told = "is declared and does not exist; take it out, or write `optional: true`"
    return (
        *(AccessFinding(str(one.name), told, "relations") for one in relations),
        *(AccessFinding(str(one.name), told, "routines") for one in routines),
    )


def undeclared_exposures(conn: Connection, application: Application) -> tuple[Exposure, ...]:
    """The same as `undeclared_objects`, in the form of the access report."""
    return tuple(Exposure(found.object, found.told) for found in undeclared_objects(conn, application))
