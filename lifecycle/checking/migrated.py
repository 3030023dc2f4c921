"""What `lifecycle migrate` made against what it would make now: declarations, functions, the release."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.mismatch import Mismatch
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.language import Phrase, translatable
from lifecycle.migrating.capabilities import CAPABILITIES, declared_capabilities
from lifecycle.migrating.functions import function_drift, function_files, leftovers, outdated_files
from lifecycle.migrating.state import installed, is_migrated, unmigrated

CAPABILITY: Final = "migrating"


def not_migrated(conn: Connection, application: Application) -> Iterator[Mismatch]:
    """Where the database is not as this release and the declarations ask."""
    if not is_migrated(conn):
        yield Mismatch(
            CAPABILITY, Phrase("the database"), Phrase("has nothing of the declared: run `lifecycle migrate`")
        )
        return
    declared, there = declared_capabilities(application), installed(conn)
    kept_up = [each for each in CAPABILITIES if each in declared or each.name in there]
    for name in unmigrated(conn, application, kept_up):
        told = Phrase("declarations changed since the last `lifecycle migrate`: run `lifecycle migrate`")
        yield Mismatch(CAPABILITY, name, told)
    for name in outdated_files(conn, function_files(application, kept_up)):
        told = Phrase("is another text than the one that was applied last: run `lifecycle migrate`")
        yield Mismatch(CAPABILITY, name, told)
    anew = translatable("{change} since it was applied: run `lifecycle migrate`, which makes it anew")
    for signature, change in function_drift(conn):
        yield Mismatch(CAPABILITY, signature, Phrase(anew, change=change))
    for signature in leftovers(conn):
        yield Mismatch(CAPABILITY, signature, Phrase("is needed no more, but used: `drop function` tells by what"))
    for capability in CAPABILITIES:
        if capability.name in there and capability not in declared:
            yield Mismatch(
                CAPABILITY,
                capability.name,
                Phrase(
                    "is declared no more and does nothing; `lifecycle undo {capability}` takes its tables back",
                    capability=capability.name,
                ),
            )
