"""What a migration remembers: the release that ran it, and which declarations it wrote to the policy tables."""

import hashlib
from collections.abc import Sequence
from typing import Final

from packaging.version import Version
from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.migrating.capability import Capability
from lifecycle.release import release

IS_MIGRATED: Final = "select to_regclass('lifecycle.migrated_declarations') is not null"
RELEASE: Final = "select release from lifecycle.releases"
REMEMBER_RELEASE: Final = """
insert into lifecycle.releases as r (release) values (%s)
on conflict (singleton) do update set release = excluded.release, migrated_at = now()
 where r.release <> excluded.release
"""
MIGRATED: Final = "select capability, hash from lifecycle.migrated_declarations"
REMEMBER_DECLARATIONS: Final = """
insert into lifecycle.migrated_declarations (capability, hash) values (%s, %s)
on conflict (capability) do update set hash = excluded.hash, migrated_at = now()
"""
FORGET_CAPABILITY: Final = "delete from lifecycle.migrated_declarations where capability = %s"


def is_migrated(conn: Connection) -> bool:
    """Whether a migration has ever run here."""
    return bool(value(conn, IS_MIGRATED))


def refuse_an_older_release(conn: Connection) -> None:
    """RefusedError when a newer release has migrated this database."""
    there = value(conn, RELEASE) if is_migrated(conn) else None
    if there is not None and Version(there) > Version(release()):
        raise RefusedError(
            f"this database was migrated by release {there}, and this is {release()}, which does not know what changed "
            "since. Install the newer release, then run the command again."
        )


def installed(conn: Connection) -> frozenset[str]:
    """Capabilities that a migration has made here."""
    return frozenset(name for name, _ in rows(conn, MIGRATED)) if is_migrated(conn) else frozenset()


def declaration_hash(statements: Sequence[sql.SQL | sql.Composed]) -> bytes:
    """A hash over what the policy tables of a capability should say."""
    text = ";\n".join(statement.as_string(None) for statement in statements)
    return hashlib.sha256(text.encode()).digest()


def write_policies(conn: Connection, application: Application, capabilities: Sequence[Capability]) -> list[str]:
    """Write the declarations to the policy tables, in one transaction; a line per capability where they differ."""
    changes = []
    with conn.transaction():
        before = dict(rows(conn, MIGRATED))
        for capability in capabilities:
            statements = capability.policies(application)
            for statement in statements:
                conn.execute(statement)
            held = declaration_hash(statements)
            if before.get(capability.name) != held:
                conn.execute(REMEMBER_DECLARATIONS, (capability.name, held))
                if statements:
                    changes.append(f"declarations of {capability.name}: written")
        conn.execute(REMEMBER_RELEASE, (release(),))
    return changes


def unmigrated(conn: Connection, application: Application, capabilities: Sequence[Capability]) -> list[str]:
    """Capabilities whose declarations differ from those that the last migration wrote."""
    before = dict(rows(conn, MIGRATED))
    return [
        capability.name
        for capability in capabilities
        if before.get(capability.name) != declaration_hash(capability.policies(application))
    ]
