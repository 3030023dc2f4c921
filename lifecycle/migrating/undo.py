"""Take a capability out of a database again, the other way round: objects, functions, tables."""

import time
from collections.abc import Callable
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.migrating.capabilities import BASE, CAPABILITIES
from lifecycle.migrating.capability import Capability
from lifecycle.migrating.foreign import refuse_a_foreign_database
from lifecycle.migrating.functions import APPLICATION, drop_functions, drop_leftovers, functions_of
from lifecycle.migrating.migrate import Migration, migrating_session, patiently
from lifecycle.migrating.revisions import STATE_SCHEMA, undo_revisions
from lifecycle.migrating.state import FORGET_CAPABILITY, installed, refuse_an_older_release

# Alembic keeps its own table, which is the last thing of ours.
DROP_VERSIONS: Final = sql.SQL("drop table if exists {}").format(sql.Identifier(STATE_SCHEMA, "alembic_version"))
DROP_STATE_SCHEMA: Final = sql.SQL("drop schema if exists {}").format(sql.Identifier(STATE_SCHEMA))
# What a view said, hour by hour, cannot be computed again, so it is nobody's to drop but a person's.
LEFT: Final = (
    "select c.oid::regclass::text from pg_class c where c.relnamespace = to_regnamespace(%s) and c.relkind = 'r'"
)


# Capabilities whose tables and functions use another one's.
STAND_ON: Final = {"partitions": ("cold",), "requests": ("erasures",)}


def undo(url: str, application: Application, name: str, *, sleep: Callable[[float], None] = time.sleep) -> Migration:
    """Take back what `lifecycle migrate` made of one capability; safe to repeat.

    Raises RefusedError, before anything is changed, where rows would be lost or another capability stands on this one.
    """
    capability = _capability(name)
    changes: list[str] = []
    with migrating_session(url) as conn:
        refuse_an_older_release(conn)
        refuse_a_foreign_database(conn, application)
        if capability.name not in installed(conn):
            return Migration(())
        _refuse_a_ground(conn, capability)
        patiently(lambda: changes.extend(capability.undo(conn, application)), sleep)
        patiently(lambda: changes.extend(_drop(conn, url, capability)), sleep)
    return Migration(tuple(changes))


def _capability(name: str) -> Capability:
    for capability in CAPABILITIES:
        if capability.name == name:
            return capability
    raise RefusedError(f"{name!r} is no capability; they are {', '.join(c.name for c in CAPABILITIES)}")


def _refuse_a_ground(conn: Connection, capability: Capability) -> None:
    """The first capabilities are the ground of all others and go last; cold months stand on partitions."""
    names = [each.name for each in CAPABILITIES]
    after = names[names.index(capability.name) + 1 :] if capability in BASE else STAND_ON.get(capability.name, ())
    standing = [name for name in after if name in installed(conn)]
    if standing:
        raise RefusedError(
            f"{', '.join(standing)} need {capability.name}. Take them back first, in this order: "
            + "; ".join(f"`lifecycle undo {name}`" for name in reversed(standing))
        )


def _drop(conn: Connection, url: str, capability: Capability) -> list[str]:
    changes: list[str] = []
    changes.extend(drop_leftovers(conn))
    folders = [capability.name, *([APPLICATION] if capability is BASE[0] else [])]
    for folder in folders:
        for file, signatures in functions_of(conn, folder).items():
            changes.extend(drop_functions(conn, file, signatures))
    changes.extend(undo_revisions(url, capability))
    # Until here a rerun goes on where this one was cut off.
    if capability is not BASE[0]:
        conn.execute(FORGET_CAPABILITY, (capability.name,))
    else:
        conn.execute(DROP_VERSIONS)
        if left := [name for (name,) in rows(conn, LEFT, (STATE_SCHEMA,))]:
            changes.append(f"schema {STATE_SCHEMA}: stays, since it holds {', '.join(left)}")
        else:
            conn.execute(DROP_STATE_SCHEMA)
            changes.append(f"schema {STATE_SCHEMA}: dropped")
    return changes
