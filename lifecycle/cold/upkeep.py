"""What a table's cold months need every day, beside months that leave: what foreign keys would have done is done,
changed rows go back, months past retention go."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lifecycle.cold.on_delete import follow_deletes
from lifecycle.cold.refreeze import refreeze
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.sweep import Swept, retire_expired, sweep
from lifecycle.cold.tables import ColdTable
from lifecycle.database import connect


@dataclass(frozen=True)
class Upkeep:
    """Thawed rows that went back into files, files of months past retention, and what left the store.

    `after_actions` are rows that lost a value or went, since what they pointed to is gone; `dangling` are rows by
    foreign key that point to nothing, where the key does not say what becomes of them.
    """

    refrozen: int
    expired_files: int
    swept: Swept
    after_actions: int
    dangling: Mapping[str, int]


def keep_up(
    url: str,
    table: ColdTable,
    storage: ColdStorage,
    now: datetime,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> Upkeep:
    """Retire months past retention, follow foreign keys, put thawed rows away, remove what nobody reads.

    Raises what its parts raise.
    """
    with connect(url, application_name="lifecycle cold") as conn:
        expired = retire_expired(conn, table, now)
        followed = follow_deletes(url, table, storage, progress)
        refrozen = refreeze(url, table, storage, now, progress)
        return Upkeep(refrozen, expired, sweep(conn, table, storage, now), followed.rows, followed.dangling)
