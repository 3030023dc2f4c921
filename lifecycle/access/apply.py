"""Make the catalog as declared: one short transaction per object, each change written down for the way back."""

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Final

from psycopg import sql

from lifecycle.access.accepted import accept, looked_at, remember_policies
from lifecycle.access.changes import Change, access_changes
from lifecycle.access.exposures import own_exposures
from lifecycle.database import Connection, politely
from lifecycle.errors import RefusedError
from lifecycle.policy import LockPolicy

# ALTER TABLE and CREATE POLICY shut the table for an instant.
LOCKS: Final = LockPolicy(timeout=0.1, tries=60)
RECORD: Final = sql.SQL(
    """insert into lifecycle.access_changes (object, change, subject, detail, grantable, repaired)
values (%s, %s, %s, %s, %s, %s)"""
)


def apply_access(conn: Connection) -> tuple[Change, ...]:
    """Change what is not as declared and return it; safe to repeat.

    What the application decided about relations that nobody looked at before is accepted as it is. Raises RefusedError
    when an object belongs to another role, or when another role granted what must go, after everything else was
    changed, and BusyError when a table stays locked.
    """
    _close_own(conn)
    changes = access_changes(conn)
    own = [change for change in changes if not change.owner]
    known = looked_at(conn)
    for name, group in groupby(own, key=lambda change: change.object):
        steps = tuple(group)
        # Of functions nobody keeps a note: all were looked at when the first relations were.
        repaired = name in known or (bool(known) and name.endswith(")"))
        _shortly(conn, name, partial(_apply, conn, steps, repaired=repaired))
    # What is still to be closed is not what the application decided.
    accept(conn, everything=False, but=frozenset(change.object for change in changes if change.owner))
    if own and (left := [change for change in access_changes(conn) if not change.owner]):
        told = "; ".join(f"{change.object}: {change.told}" for change in left)
        raise RefusedError(
            f"not as declared although it was changed: {told}. A role that is not the owner granted it: read who in "
            "pg_class.relacl (after the slash), revoke it as that role, then run `lifecycle migrate` again"
        )
    if foreign := sorted({(change.object, change.owner) for change in changes if change.owner}):
        objects = ", ".join(f"{name} (owner {owner})" for name, owner in foreign)
        raise RefusedError(
            f"who may see what was changed, but not on objects of others: {objects}. Give them to the role that "
            "migrates (alter ... owner to), or take them out of lifecycle/access_policies/declared.py; "
            "then run `lifecycle migrate` again"
        )
    return tuple(own)


def _close_own(conn: Connection) -> None:
    """Close what of this project's own was opened; what is not ours to close stays with the check."""
    for exposure in own_exposures(conn):
        if exposure.cure:
            _shortly(conn, exposure.object, partial(conn.execute, exposure.cure.encode()))


def _shortly(conn: Connection, name: str, work: Callable[[], object]) -> None:
    # A grant waits for whoever is writing the same row of the catalog.
    catalog = "pg_catalog.pg_proc" if name.endswith(")") else "pg_catalog.pg_class"
    relation = catalog if name.endswith(")") or " " in name else name
    politely(conn, work, what=f"access to {name}", relation=relation, also=(catalog,), locks=LOCKS)


def _apply(conn: Connection, steps: tuple[Change, ...], *, repaired: bool) -> None:
    for step in steps:
        conn.execute(step.statement)
        if step.kind not in ("policy", "option"):
            conn.execute(RECORD, (step.object, step.kind, step.subject, step.detail, step.grantable, repaired))
    if made := {step.subject: step.detail for step in steps if step.kind == "policy" and step.detail}:
        remember_policies(conn, steps[0].object, made)
