"""access.yaml: what the API's roles reach. Every line is proposed: one that is in force takes privileges away."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from lifecycle.access.check import AccessFinding, undeclared_objects
from lifecycle.access.model import API_ROLES
from lifecycle.database import Connection, rows
from lifecycle.declarations.access import AccessDeclarations
from lifecycle.declarations.application import Application
from lifecycle.declarations.database import Database
from lifecycle.drafting.entry import Entry, Remark
from lifecycle.drafting.survey import Survey

FILE: Final = "access"
ABOUT: Final = (
    "Who may do what with which rows. Whoever is not named in a line that is in force may do nothing any more, but the "
    "server's own role service_role; objects without a line stay as they are. Begin with those that nothing guards."
)
KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "guarded": {
        "row_security": True,
        "access": [
            {
                "roles": ["anon", "authenticated"],
                "verbs": ["SELECT", "INSERT", "UPDATE", "DELETE"],
                "rows": "by the application's policies",
            }
        ],
        "why": "the application's policies decide; they are accepted as they stand, and a change is told",
    },
    "closed": {"row_security": True, "why": "the back end alone reads and writes it"},
    # A view or materialized view that shows everybody's rows.
    "statistic": {
        "access": [{"roles": ["ops"], "verbs": ["SELECT"], "rows": "every row", "granted": True}],
        "why": "it reads with its owner's rights, across all persons",
    },
}
EVERYTHING: Final = "DELETE, INSERT, SELECT, TRUNCATE, UPDATE"
EXPOSED: Final = """
select n.nspname::text from pg_namespace n join pg_roles r on r.rolname = any (%s)
 where n.nspname = any (%s) and has_schema_privilege(r.oid, n.oid, 'usage') group by n.nspname order by 1
"""
EXECUTE: Final = """
select array(select r.rolname::text from pg_roles r
              where r.rolname = any (%s) and has_function_privilege(r.oid, to_regprocedure(%s), 'execute') order by 1)
"""


def exposed_objects(conn: Connection, found: Survey) -> Iterator[Entry | Remark]:
    """A line for each object that the API reaches; changes nothing."""
    schemas = {name.schema for name in found.relations}
    reached = [schema for (schema,) in rows(conn, EXPOSED, (list(API_ROLES), sorted(schemas)))]
    application = Application(
        database=Database(managed_schemas=found.managed),
        access=AccessDeclarations.model_validate({"kinds": {name: dict(kind) for name, kind in KINDS.items()}}),
    )
    objects = undeclared_objects(conn, application, reached)
    if not objects:
        yield Remark(FILE, "", "The API's roles reach nothing here, or there are none.")
        return
    for name, kind in KINDS.items():
        yield Entry(FILE, "kinds", name, dict(kind), sure=True)
    routines: dict[str, set[str]] = defaultdict(set)
    for each in sorted(objects, key=_worst_first):
        key, _, value = each.line.partition(": ")
        if each.section == "routines":
            # As it is: a policy may ask it in the caller's name. Functions of one name are declared together.
            routines[key] |= set(rows(conn, EXECUTE, (list(API_ROLES), each.object))[0][0])
        else:
            note = each.told.replace(EVERYTHING, "everything")
            yield Entry(FILE, each.section, key, yaml.safe_load(value), note=note)
    for key, roles in sorted(routines.items()):
        yield Entry(FILE, "routines", key, {"roles": sorted(roles)}, note="runs with its owner's rights")


def _worst_first(found: AccessFinding) -> tuple[bool, bool, str]:
    return "kind: closed" not in found.line, "kind: guarded" in found.line, found.line
