"""Make the catalog as declared: one short transaction per object, each change written down for the way back."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.access.accepted import accept, looked_at, remember_policies
from lifecycle.access.change import Change, in_words
from lifecycle.access.changes import access_changes
from lifecycle.access.exposures import own_exposures
from lifecycle.access.model import Declared
from lifecycle.database import Connection, politely
from lifecycle.locks import LockPolicy

# ALTER TABLE and CREATE POLICY shut the table for an instant.
LOCKS: Final = LockPolicy(timeout=0.1, tries=60)
RECORD: Final = sql.SQL(
    """insert into lifecycle.access_changes (object, change, subject, detail, grantable, repaired)
values (%s, %s, %s, %s, %s, %s)"""
)
# A condition that does not fit the table any more.
NO_LONGER_FITS: Final = (
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.DatatypeMismatch,
    psycopg.errors.InvalidTextRepresentation,
)


def apply_access(conn: Connection, declared: Declared) -> Iterator[str]:
    """Change what is not as declared, a line per object; safe to repeat.

    What the application decided about relations that nobody looked at before is accepted as it is. An object that
    cannot be changed stays as it was and has a line that says why: it belongs to another role, another role granted
    what must go, or a condition does not fit it. Raises BusyError when a table stays locked.
    """
    yield from _close_own(conn)
    changes = access_changes(conn, declared)
    own = [change for change in changes if not change.owner]
    known = looked_at(conn)
    unfit: dict[str, str] = {}
    for name, group in groupby(own, key=lambda change: change.object):
        steps = tuple(group)
        # Of functions nobody keeps a note: all were looked at when the first relations were.
        repaired = name in known or (bool(known) and name.endswith(")"))
        try:
            _shortly(conn, name, partial(_apply, conn, declared, steps, repaired=repaired))
        except NO_LONGER_FITS as error:
            unfit[name] = f"{error.diag.message_primary}; change its rows in access.yaml"
        else:
            yield f"access to {name}: {'; '.join(in_words(steps))}: made as declared"
    # What is still to be closed is not what the application decided.
    foreign = {change.object: change.owner for change in changes if change.owner}
    accept(conn, declared, everything=False, but=frozenset((*foreign, *unfit)))
    for name, owner in sorted(foreign.items()):
        yield (
            f"access to {name}: left as it is, because it belongs to {owner}. Give it to the role that migrates (alter "
            "... owner to), or take it out of access.yaml; then run `lifecycle migrate` again"
        )
    for name, reason in unfit.items():
        yield f"access to {name}: left as it is: {reason}"
    if own:
        for change in access_changes(conn, declared):
            if not change.owner and change.object not in unfit:
                yield (
                    f"access to {change.object}: {change.told}, although it was changed: a role that is not the owner "
                    "granted it. Read who in pg_class.relacl (after the slash), revoke it as that role, then run "
                    "`lifecycle migrate` again"
                )


def _close_own(conn: Connection) -> Iterator[str]:
    """Close what of this project's own was opened; what is not ours to close stays with the check.

    Who may execute a function was looked at when functions were applied.
    """
    for exposure in own_exposures(conn, None):
        if exposure.cure:
            _shortly(conn, exposure.object, partial(conn.execute, exposure.cure.encode()))
            yield f"{exposure.object}: {exposure.told}; closed"


def _shortly(conn: Connection, name: str, work: Callable[[], object]) -> None:
    # A grant waits for whoever is writing the same row of the catalog.
    catalog = "pg_catalog.pg_proc" if name.endswith(")") else "pg_catalog.pg_class"
    relation = catalog if name.endswith(")") or " " in name else name
    politely(conn, work, what=f"access to {name}", relation=relation, also=(catalog,), locks=LOCKS)


def _apply(conn: Connection, declared: Declared, steps: tuple[Change, ...], *, repaired: bool) -> None:
    for step in steps:
        conn.execute(step.statement)
        if step.kind not in ("policy", "option"):
            conn.execute(RECORD, (step.object, step.kind, step.subject, step.detail, step.grantable, repaired))
    if made := {step.subject: step.detail for step in steps if step.kind == "policy" and step.detail}:
        remember_policies(conn, declared, steps[0].object, made)
