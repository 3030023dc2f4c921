"""What `lifecycle migrate` made against what it would make now: declarations, functions, the release."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.mismatch import Mismatch
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.migrating.capabilities import CAPABILITIES, declared_capabilities
from lifecycle.migrating.functions import function_drift, function_files, leftovers, outdated_files
from lifecycle.migrating.state import installed, is_migrated, unmigrated

CAPABILITY: Final = "migrating"
AGAIN: Final = "run `lifecycle migrate`"


def not_migrated(conn: Connection, application: Application) -> Iterator[Mismatch]:
    """Where the database is not as this release and the declarations ask."""
    if not is_migrated(conn):
        yield Mismatch(CAPABILITY, "the database", f"has nothing of the declared: {AGAIN}")
        return
    declared, there = declared_capabilities(application), installed(conn)
    kept_up = [each for each in CAPABILITIES if each in declared or each.name in there]
    for name in unmigrated(conn, application, kept_up):
        yield Mismatch(CAPABILITY, name, f"declarations changed since the last `lifecycle migrate`: {AGAIN}")
    for name in outdated_files(conn, function_files(application, kept_up)):
        yield Mismatch(CAPABILITY, name, f"is another text than the one that was applied last: {AGAIN}")
    for signature, told in function_drift(conn):
        yield Mismatch(CAPABILITY, signature, f"{told} since it was applied: {AGAIN}, which makes it anew")
    for signature in leftovers(conn):
        yield Mismatch(CAPABILITY, signature, "is needed no more, but used: `drop function` tells by what")
    for capability in CAPABILITIES:
        if capability.name in there and capability not in declared:
            yield Mismatch(
                CAPABILITY,
                capability.name,
                f"is declared no more and does nothing; `lifecycle undo {capability.name}` takes its tables back",
            )
