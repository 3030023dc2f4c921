"""Sessions of tests about migrations, and the way back of everything."""

from lifecycle.database import Connection, connect
from lifecycle.declarations.application import Application
from lifecycle.migrating.capabilities import CAPABILITIES
from lifecycle.migrating.undo import undo

# It stays on the way back: others may use it by then.
PG_TRGM = "extension pg_trgm in extensions"


def session(url: str) -> Connection:
    return connect(url, application_name="test")


def undo_all(url: str, application: Application) -> None:
    """Take every capability back, the last one first."""
    for capability in reversed(CAPABILITIES):
        undo(url, application, capability.name)
