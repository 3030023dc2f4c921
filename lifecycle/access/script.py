"""The declaration as a script, for a reviewer to read before anything is run."""

from typing import Final

from psycopg import sql

from lifecycle.access.changes import relation_changes, routine_changes
from lifecycle.access.declared import declared_access
from lifecycle.access.live import Catalog, LiveRelation, LiveRoutine
from lifecycle.access.model import API_ROLES, COMPARED_ROLES, HELPER_SCHEMA, PUBLIC, SERVICE_ROLE, VERBS
from lifecycle.declarations.application import Application

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
        for relation in select pg_catalog.to_regclass(n) from unnest({}::text[]) n where pg_catalog.to_regclass(n) is not null loop
            execute pg_catalog.format('revoke maintain on table %s from {}', relation);
        end loop;
    end if;
end $$"""


def access_statements(application: Application) -> list[sql.Composed]:
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
    changes = (*relation_changes(catalog, declared.relations, {}), *routine_changes(catalog, applications))
    if not relations:
        return [change.statement for change in changes]
    narrowed = [str(relation.name) for relation in declared.relations if relation.narrowed]
    narrow = sql.SQL(NARROW).format(sql.Literal(narrowed), sql.Literal(declared.service_only))
    maintain = sql.SQL(REVOKE_MAINTAIN).format(
        sql.Literal([str(name) for name in relations]), sql.SQL(", ").join(map(sql.Identifier, API_ROLES))
    )
    return [narrow, maintain, *(change.statement for change in changes)]
