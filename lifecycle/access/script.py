"""The declaration as a script, for a reviewer to read before anything is run."""

from typing import Final

from psycopg import sql

from lifecycle.access.changes import relation_changes, routine_changes
from lifecycle.access.declared import APPLICATION_ROUTINES, RELATIONS
from lifecycle.access.live import SERVICE_ONLY, Catalog, LiveRelation, LiveRoutine
from lifecycle.access.model import API_ROLES, COMPARED_ROLES, PUBLIC, SERVICE_ROLE, VERBS

# Of policies that are narrowed the application alone knows the names.
NARROW: Final = r"""do $$
declare
    found record;
begin
    for found in
        select p.polname, p.polrelid::regclass as relation from pg_catalog.pg_policy p
         where p.polrelid = any ({}::regclass[]) and p.polroles = '{{0}}'
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
        foreach relation in array {}::regclass[] loop
            execute pg_catalog.format('revoke maintain on table %s from {}', relation);
        end loop;
    end if;
end $$"""


def access_statements() -> list[sql.Composed]:
    """Everything that a database which grants all to the API and has no policy of ours would get."""
    everything = dict.fromkeys((*VERBS, "TRUNCATE", "REFERENCES", "TRIGGER"), False)
    relations = {
        relation.qualified_name: LiveRelation(
            relation.qualified_name,
            relation.qualified_name,
            "v" if relation.reads_as_caller else "r",
            row_security=False,
            is_ours_to_change=True,
            owner="",
            reads_as_caller=relation.reads_as_caller,
            privileges=dict.fromkeys(API_ROLES, everything),
        )
        for relation in RELATIONS
    }
    routines = tuple(
        LiveRoutine(name, name, True, "", frozenset((PUBLIC, *API_ROLES)))
        for name in (routine.qualified_name for routine in APPLICATION_ROUTINES)
    )
    catalog = Catalog(frozenset((*COMPARED_ROLES, SERVICE_ROLE)), relations, routines)
    changes = (*relation_changes(catalog, RELATIONS, {}), *routine_changes(catalog, APPLICATION_ROUTINES))
    narrowed = [relation.qualified_name for relation in RELATIONS if relation.narrowed]
    narrow = sql.SQL(NARROW).format(sql.Literal(narrowed), sql.Literal(SERVICE_ONLY))
    maintain = sql.SQL(REVOKE_MAINTAIN).format(
        sql.Literal(list(relations)), sql.SQL(", ").join(map(sql.Identifier, API_ROLES))
    )
    return [narrow, maintain, *(change.statement for change in changes)]
