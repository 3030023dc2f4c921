"""The matrix of who may do what, from the catalog, in the words of the declaration."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from lifecycle.access.changes import in_force
from lifecycle.access.live import LiveRelation, by_name, printed_in_full, read_catalog
from lifecycle.access.model import ANON, AUTHENTICATED, OPS, PUBLIC, SERVICE_ROLE, VERBS, Declared, Relation
from lifecycle.database import Connection, rows

SHOWN_ROLES: Final[tuple[str, ...]] = (ANON, AUTHENTICATED, OPS, SERVICE_ROLE)
KINDS: Final = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}
CLOSED: Final = (
    "select object, subject, detail, changed_at from lifecycle.access_changes where change = 'revoke' order by id"
)
SECURED: Final = "select object, changed_at from lifecycle.access_changes where change = 'row security' order by id"


@dataclass(frozen=True)
class MatrixRow:
    """One object: its kind, whether row-level security guards it, and per role what it may do with which rows."""

    object: str
    kind: str
    guarded: str
    access: dict[str, str]
    reason: str


@dataclass(frozen=True)
class Closed:
    """What was open before `lifecycle migrate` closed it."""

    object: str
    told: str


def access_matrix(conn: Connection, declared: Declared) -> tuple[MatrixRow, ...]:
    """One row per declared object that exists: relations in the order of the declaration, then functions."""
    with printed_in_full(conn):
        catalog = read_catalog(conn, declared)
    found = [
        MatrixRow(
            live.identifier,
            KINDS[live.kind],
            _guard(live),
            {role: _words(in_force(relation, live), live, role) for role in SHOWN_ROLES if role in catalog.roles},
            relation.reason,
        )
        for relation in declared.relations
        if (live := catalog.relations.get(relation.name))
    ]
    named = by_name(catalog)
    for routine in declared.routines:
        for function in named.get(routine.name, []):
            executors = function.executors if PUBLIC not in function.executors else set(SHOWN_ROLES)
            access = {r: "EXECUTE" if r in executors else "" for r in SHOWN_ROLES if r in catalog.roles}
            found.append(MatrixRow(function.signature, "function", "", access, routine.reason))
    return tuple(found)


def _guard(live: LiveRelation) -> str:
    if live.kind == "v":
        return "caller's rights" if live.reads_as_caller else "owner's rights"
    return "row-level security" if live.row_security else "none"


def _words(relation: Relation, live: LiveRelation, role: str) -> str:
    """Verbs with the same rows together; what is not declared is said so."""
    verbs_of: dict[str, list[str]] = defaultdict(list)
    for verb in sorted(live.verbs(role), key=lambda v: VERBS.index(v) if v in VERBS else len(VERBS)):
        if role == SERVICE_ROLE:
            verbs_of["every row"].append(verb)
            continue
        declared = [access.rows.words for access in relation.access if role in access.roles and verb in access.verbs]
        verbs_of[" or ".join(declared) or "not declared"].append(verb)
    return "; ".join(f"{', '.join(verbs)} {words}" for words, verbs in verbs_of.items())


def closed_before(conn: Connection) -> tuple[Closed, ...]:
    """What `lifecycle migrate` closed, the oldest first, one entry per object and role."""
    taken: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, role, privilege, _ in rows(conn, CLOSED):
        if privilege not in taken[name, role]:
            taken[name, role].append(privilege)
    secured = [Closed(name, "every row was open: row-level security is on now") for name, _ in rows(conn, SECURED)]
    return (*secured, *(Closed(name, f"{role}: {', '.join(privileges)}") for (name, role), privileges in taken.items()))
