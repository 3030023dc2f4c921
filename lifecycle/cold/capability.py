"""Cold months in a migration."""

from typing import Final

from lifecycle.cold.narrow import make_narrow_tables
from lifecycle.cold.undo import take_cold_months_back
from lifecycle.migrating.capability import Capability

COLD: Final = Capability(
    "cold",
    declared=lambda application: any(table.cold_after for table in application.event_tables.values()),
    files=("cold.sql", "narrow.sql"),
    objects=make_narrow_tables,
    undo=take_cold_months_back,
    works_on_rows=True,
)
