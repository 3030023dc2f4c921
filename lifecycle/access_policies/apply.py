"""Make the catalog as declared: one short transaction per object, each change written down for the way back."""

from functools import partial
from itertools import groupby
from typing import Final

from psycopg import sql

from lifecycle.access_policies.accepted import accept, remember_policies
from lifecycle.access_policies.changes import Change, access_changes
from lifecycle.database import Connection, politely
from lifecycle.errors import RefusedError
from lifecycle.policy import LockPolicy

# ALTER TABLE and CREATE POLICY shut the table for an instant.
LOCKS: Final = LockPolicy(timeout=0.1, tries=60)
RECORD: Final = sql.SQL(
    """insert into lifecycle.access_changes (object, change, subject, detail, grantable) values (%s, %s, %s, %s, %s)"""
)


def apply_access(conn: Connection) -> tuple[Change, ...]:
    """Change what is not as declared and return it; safe to repeat.

    What the application decided about relations that nobody looked at before is accepted as it is. Raises RefusedError
    when an object belongs to another role, after everything else was changed, and BusyError when a table stays locked.
    """
    changes = access_changes(conn)
    own = [change for change in changes if not change.owner]
    for name, group in groupby(own, key=lambda change: change.object):
        steps = tuple(group)
        politely(conn, partial(_apply, conn, steps), what=f"access to {name}", relation=name, locks=LOCKS)
    accept(conn, everything=False)
    if foreign := sorted({(change.object, change.owner) for change in changes if change.owner}):
        objects = ", ".join(f"{name} (owner {owner})" for name, owner in foreign)
        raise RefusedError(
            f"who may see what was changed, but not on objects of others: {objects}. Give them to the role that "
            "migrates (alter ... owner to), or take them out of lifecycle/access_policies/declared.py; "
            "then run `lifecycle migrate` again"
        )
    return tuple(own)


def _apply(conn: Connection, steps: tuple[Change, ...]) -> None:
    for step in steps:
        conn.execute(step.statement)
        if step.kind not in ("policy", "option"):
            conn.execute(RECORD, (step.object, step.kind, step.subject, step.detail, step.grantable))
    if made := {step.subject: step.detail for step in steps if step.kind == "policy" and step.detail}:
        remember_policies(conn, steps[0].object, made)
