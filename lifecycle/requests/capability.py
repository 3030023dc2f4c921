"""Our deletion requests in a migration: for an application that has no table of its own."""

from collections.abc import Iterator
from typing import Final

from lifecycle.database import Connection, value
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.migrating.capability import Capability

EXISTS: Final = "select to_regclass('lifecycle.deletion_requests') is not null"
REQUESTS: Final = "select count(*) from lifecycle.deletion_requests"


def require_no_requests(conn: Connection, _application: Application) -> Iterator[str]:
    """RefusedError while there are requests: they are the evidence that somebody asked."""
    if value(conn, EXISTS) and (count := value(conn, REQUESTS)):
        raise RefusedError(
            f"lifecycle.deletion_requests holds {count:,} requests, which would be lost. Keep a copy of it, delete its "
            "rows, then run the command again."
        )
    return iter(())


REQUESTS_OF_OURS: Final = Capability(
    "requests",
    declared=lambda application: application.personal_data is not None and application.personal_data.requests.are_ours,
    files=("requests.sql",),
    executors={"public.request_erasure(person text, reason text)": ("service_role",)},
    undo=require_no_requests,
)
