"""The declaration as a script, for a reviewer to read before anything is run."""

from itertools import groupby
from operator import attrgetter
from typing import Final

from psycopg import sql

from lifecycle.access.change import Change
from lifecycle.access.changes import relation_changes, routine_changes
from lifecycle.access.declared import declared_access
from lifecycle.access.live import Catalog, LiveRelation, LiveRoutine
from lifecycle.access.model import API_ROLES, COMPARED_ROLES, HELPER_SCHEMA, PUBLIC, SERVICE_ROLE, VERBS, Declared
from lifecycle.declarations.application import Application
from lifecycle.names import QualifiedName

# Of policies that are narrowed the application alone knows the names.
NARROW: Final = r"""do $$
declare
    found record;
begin
    for found in
        select p.polname, p.polrelid::regclass as relation from pg_catalog.pg_policy p
         where p.polrelid in (select pg_catalog.to_regclass(n) from unnest({}::text[]) n) and p.polroles = '{{0}}'
           and pg_catalog.pg_get_expr(p.polqual, p.polrelid) ~* {}
    loop
        execute pg_catalog.format('alter policy %I on %s to service_role', found.polname, found.relation);
    end loop;
end $$"""


# Older versions than 17 do not know the word.
REVOKE_MAINTAIN: Final = """do $$
declare
    relation regclass;
begin
    if pg_catalog.current_setting('server_version_num')::int >= 170000 then
        for relation in select r from unnest({}::text[]) n, pg_catalog.to_regclass(n) r where r is not null loop
            execute pg_catalog.format('revoke maintain on table %s from {}', relation);
        end loop;
    end if;
end $$"""


# An object that the application may lack.
WHERE_IT_IS: Final = """do $there$ begin
if {found}({name}) is not null then
{statements};
end if;
end $there$"""


def access_script(application: Application) -> str:
    """Everything that a database which grants all to the API and has no policy of ours would get."""
    declared = declared_access(application)
    everything = dict.fromkeys((*VERBS, "TRUNCATE", "REFERENCES", "TRIGGER"), False)
    relations = {
        relation.name: LiveRelation(
            relation.name,
            str(relation.name),
            "v" if relation.reads_as_caller else "r",
            row_security=False,
            is_ours_to_change=True,
            owner="",
            reads_as_caller=relation.reads_as_caller,
            privileges=dict.fromkeys(API_ROLES, everything),
        )
        for relation in declared.relations
    }
    # Functions of ours are closed when they are made.
    applications = [routine for routine in declared.routines if routine.name.schema != HELPER_SCHEMA]
    routines = tuple(
        LiveRoutine(routine.name, str(routine.name), True, "", frozenset((PUBLIC, *API_ROLES)))
        for routine in applications
    )
    catalog = Catalog(frozenset((*COMPARED_ROLES, SERVICE_ROLE)), relations, routines)
    changes = [*relation_changes(catalog, declared.relations, {}), *routine_changes(catalog, applications)]
    optional = {str(relation.name) for relation in declared.relations if relation.optional}
    optional |= {str(routine.name) for routine in applications if routine.optional}
    script = [_of_one(name, list(found), name in optional) for name, found in groupby(changes, attrgetter("object"))]
    if relations:
        script = [*_before(declared, list(relations)), *script]
    return "".join(f"{statement};\n" for statement in script)


def _of_one(name: str, changes: list[Change], optional: bool) -> str:
    statements = ";\n".join(change.statement.as_string(None) for change in changes)
    if not optional:
        return statements
    found = "to_regclass" if changes[0].statement.as_string(None).find(" routine ") < 0 else "to_regproc"
    return WHERE_IT_IS.format(found=found, name=sql.Literal(name).as_string(None), statements=statements)


def _before(declared: Declared, relations: list[QualifiedName]) -> list[str]:
    names = [str(name) for name in relations]
    narrowed = [str(relation.name) for relation in declared.relations if relation.narrowed]
    narrow = sql.SQL(NARROW).format(sql.Literal(narrowed), sql.Literal(declared.service_only))
    roles = sql.SQL(", ").join(map(sql.Identifier, API_ROLES))
    maintain = sql.SQL(REVOKE_MAINTAIN).format(sql.Literal(names), roles)
    return [narrow.as_string(None), maintain.as_string(None)]
