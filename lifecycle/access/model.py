"""What a declaration is made of, kinds and conditions resolved: verbs, rows, who may do what with one object."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lifecycle.names import QualifiedName

SELECT: Final = "SELECT"
INSERT: Final = "INSERT"
UPDATE: Final = "UPDATE"
DELETE: Final = "DELETE"
# TRUNCATE, REFERENCES, TRIGGER and MAINTAIN are of no use to an API; the first passes row-level security by.
VERBS: Final = (SELECT, INSERT, UPDATE, DELETE)

ANON: Final = "anon"
AUTHENTICATED: Final = "authenticated"
OPS: Final = "ops"
SERVICE_ROLE: Final = "service_role"
PUBLIC: Final = "public"
# service_role and the owner pass row-level security by and stay as they are; they are shown, not compared.
API_ROLES: Final = (ANON, AUTHENTICATED)
COMPARED_ROLES: Final = (*API_ROLES, OPS)

# The schema that the API reaches, whatever else is declared.
API_SCHEMA: Final = "public"
# Of functions that policies ask in the caller's name; nobody has USAGE on it.
HELPER_SCHEMA: Final = "private"


@dataclass(frozen=True)
class Rows:
    """Which rows: in words, and as the condition of a policy of ours; without one, no policy of ours is made."""

    words: str
    condition: str | None = None


@dataclass(frozen=True)
class Access:
    """What some roles may do, with which rows.

    `granted` is for a privilege that `lifecycle migrate` gives where it is missing; others are only ever taken away.
    """

    roles: tuple[str, ...]
    verbs: tuple[str, ...]
    rows: Rows
    granted: bool = False


@dataclass(frozen=True)
class Relation:
    """Who may do what with a table, view or materialized view; whoever is not named may do nothing.

    `row_security` says whether row-level security must be on. `reads_as_caller` is for views (security_invoker).
    `narrowed`: policies of the application that only service_role passes are made for that role alone.
    """

    name: QualifiedName
    access: tuple[Access, ...]
    reason: str
    row_security: bool = False
    reads_as_caller: bool = False
    narrowed: bool = False
    optional: bool = False

    def verbs(self, role: str) -> frozenset[str]:
        """What `role` may do, with whichever rows. PUBLIC may do nothing: it is every role, also those to come."""
        return frozenset(verb for access in self.access if role in access.roles for verb in access.verbs)

    def granted(self, role: str) -> frozenset[str]:
        """The part of `verbs` that is granted where it is missing."""
        return frozenset(v for access in self.access if access.granted and role in access.roles for v in access.verbs)

    def policies(self) -> Mapping[str, tuple[str, tuple[str, ...], str]]:
        """Our policies by name: verb, roles, condition."""
        return {
            f"lifecycle: {verb.lower()} {access.rows.words}": (verb, access.roles, access.rows.condition)
            for access in self.access
            for verb in access.verbs
            if access.rows.condition
        }


@dataclass(frozen=True)
class Routine:
    """Who may execute the functions of this name; whoever is not named may not.

    `granted` names the roles that get it where it is missing.
    """

    name: QualifiedName
    roles: tuple[str, ...]
    reason: str
    granted: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Declared:
    """The whole declaration, in its order.

    `service_only` is a regular expression for conditions that only the back end passes, as PostgreSQL may print them.
    """

    relations: tuple[Relation, ...] = ()
    routines: tuple[Routine, ...] = ()
    service_only: str | None = None

    @property
    def schemas(self) -> list[str]:
        """In which something is looked at."""
        names = [relation.name for relation in self.relations] + [routine.name for routine in self.routines]
        return sorted({API_SCHEMA, HELPER_SCHEMA, *(name.schema for name in names)})

    @property
    def exposed_schemas(self) -> list[str]:
        """Whose tables and views the API reaches."""
        return sorted({API_SCHEMA, *(relation.name.schema for relation in self.relations)})
