"""What the application itself decided, as it stood when somebody looked: its policies, and what its roles may do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from lifecycle.access.live import Catalog, LiveRelation, printed_in_full, read_catalog
from lifecycle.access.model import API_ROLES, VERBS, Declared, Relation
from lifecycle.database import Connection, rows
from lifecycle.errors import RefusedError

POLICY: Final = "policy"
GRANT: Final = "grant"

HELD: Final = "select object, kind, subject, definition from lifecycle.accepted_access"
OUR_POLICIES: Final = """
select object, subject, definition, declared from lifecycle.accepted_access
 where kind = 'policy' and declared is not null
"""
MIGRATED: Final = "select to_regclass('lifecycle.accepted_access') is not null"
WRITE: Final = sql.SQL(
    """insert into lifecycle.accepted_access (object, kind, subject, definition, declared) values (%s, %s, %s, %s, %s)
on conflict (object, kind, subject) do update
   set definition = excluded.definition, declared = excluded.declared, accepted_at = now()"""
)


@dataclass(frozen=True)
class Drift:
    """How the application's own access differs from what was accepted."""

    object: str
    subject: str
    told: str


def require_migrated(conn: Connection) -> None:
    """Raise RefusedError before the first migration."""
    if not rows(conn, MIGRATED)[0][0]:
        raise RefusedError("nothing was accepted in this database yet; run `lifecycle migrate` first")


def accepted_policies(conn: Connection) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Our policies as they were made, by table and name: as PostgreSQL prints them, and what they were declared as."""
    if not rows(conn, MIGRATED)[0][0]:
        return {}
    return {(row[0], row[1]): (row[2], row[3]) for row in rows(conn, OUR_POLICIES)}


def _standing(live: LiveRelation, declared: Relation | None) -> Iterable[tuple[str, str, str]]:
    """Kind, subject and definition of what stands on a relation and is the application's."""
    for name, policy in live.policies.items():
        if not policy.ours:
            yield POLICY, name, policy.definition
    # One of these for every relation, so that one which nobody may touch counts as looked at, too. Where the
    # declaration holds, only what is the application's to give: `changes` compares the rest.
    ours_stand = any(policy.ours for policy in live.policies.values())
    for role in API_ROLES:
        decided = frozenset(VERBS)
        if declared and (ours_stand or not declared.policies()):
            decided = declared.verbs(role) - declared.granted(role)
        yield GRANT, role, ", ".join(sorted(live.verbs(role) & decided)) or "nothing"


def looked_at(conn: Connection) -> frozenset[str]:
    """Relations that were accepted once."""
    # A policy of ours is remembered before its table is accepted; grants are taken down by acceptance alone.
    return frozenset(row[0] for row in rows(conn, f"{HELD} where kind = '{GRANT}'"))


def accept(conn: Connection, declared: Declared, *, everything: bool, but: frozenset[str] = frozenset()) -> int:
    """Take the application's policies and grants as they are now; returns how many were written.

    Without `everything` only those of relations that were never looked at, and never those of the relations in `but`.
    Raises RefusedError before the first migration.
    """
    require_migrated(conn)
    relations = {relation.name: relation for relation in declared.relations}
    with printed_in_full(conn):
        catalog = read_catalog(conn, declared)
        known = looked_at(conn) if not everything else frozenset[str]()
        if everything:
            conn.execute("delete from lifecycle.accepted_access where declared is null")
        taken = [
            (live.identifier, kind, subject, definition, None)
            for live in catalog.relations.values()
            if live.identifier not in known | but
            for kind, subject, definition in _standing(live, relations.get(live.name))
        ]
        conn.cursor().executemany(WRITE, taken)
    return len(taken)


def remember_policies(conn: Connection, declared: Declared, identifier: str, made_from: Mapping[str, str]) -> None:
    """Keep policies of ours as PostgreSQL prints them now, so that a later change of one is seen.

    `made_from` says by name what each was made from.
    """
    with printed_in_full(conn):
        found = {live.identifier: live for live in read_catalog(conn, declared).relations.values()}[identifier]
        made = [(identifier, POLICY, name, found.policies[name].definition, text) for name, text in made_from.items()]
        conn.cursor().executemany(WRITE, made)


def drifts(conn: Connection, declared: Declared) -> tuple[Drift, ...]:
    """What the application changed since it was accepted: policies that came, went or differ, privileges lost or won.

    Relations that were never accepted are not among them; `exposures` names those. Raises RefusedError before the first
    migration.
    """
    require_migrated(conn)
    with printed_in_full(conn):
        catalog = read_catalog(conn, declared)
        held = {(row[0], row[1], row[2]): row[3] for row in rows(conn, HELD + " where declared is null")}
    return tuple(_drifts(catalog, declared, held))


def _drifts(catalog: Catalog, declared: Declared, held: dict[tuple[str, str, str], str]) -> Iterable[Drift]:
    relations = {relation.name: relation for relation in declared.relations}
    known = {identifier for identifier, _, _ in held}
    standing = {
        (live.identifier, kind, subject): definition
        for live in catalog.relations.values()
        if live.identifier in known
        for kind, subject, definition in _standing(live, relations.get(live.name))
    }
    there = {live.identifier for live in catalog.relations.values()}
    for identifier in sorted(known - there):
        yield Drift(identifier, "", "does not exist any more")
    for key in sorted(key for key in held.keys() | standing.keys() if key[0] in there):
        identifier, kind, subject = key
        before, now = held.get(key), standing.get(key)
        if before == now:
            continue
        what = f'policy "{subject}"' if kind == POLICY else f"what {subject} may do"
        if before is None:
            yield Drift(identifier, subject, f"{what} is new: {now}")
        elif now is None:
            yield Drift(identifier, subject, f"{what} is gone; it was: {before}")
        else:
            yield Drift(identifier, subject, f"{what} was: {before}; it is: {now}")
