"""Erasures in a migration: the map of personal data and the functions that follow it."""

from lifecycle.erasures.data_map import map_statements
from lifecycle.erasures.undo import require_no_receipts
from lifecycle.migrating.capability import Capability

ERASURES = Capability(
    "erasures",
    declared=lambda application: application.personal_data is not None,
    files=(
        "words.sql",
        "queue.sql",
        "keys.sql",
        "erase.sql",
        "reach.sql",
        "refresh.sql",
        "search.sql",
        "unread.sql",
        "proof.sql",
        "process.sql",
    ),
    policies=map_statements,
    undo=require_no_receipts,
)
