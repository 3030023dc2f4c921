"""Take erasures back: the proof of what was erased goes last, and only by a person's hand."""

from collections.abc import Iterator
from typing import Final

from lifecycle.database import Connection, value
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError

EXISTS: Final = "select to_regclass('lifecycle.erasure_receipts') is not null"
RECEIPTS: Final = "select count(*) from lifecycle.erasure_receipts"


def require_no_receipts(conn: Connection, _application: Application) -> Iterator[str]:
    """RefusedError while there are receipts: they prove erasures, and nothing makes them again."""
    if value(conn, EXISTS) and (count := value(conn, RECEIPTS)):
        raise RefusedError(
            f"lifecycle.erasure_receipts holds {count:,} receipts, which prove erasures and would be lost. Keep a copy "
            "of it and of `lifecycle erasure export`, delete its rows, then run the command again."
        )
    return iter(())
