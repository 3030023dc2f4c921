"""The declarations as shipped, and the event table that benchmarks fill."""

from typing import Final

from lifecycle.declarations.loader import DEFAULT_FOLDER, load_application
from lifecycle.partitions.tables import monthly_tables, named_table

APPLICATION: Final = load_application(DEFAULT_FOLDER)
EVENTS: Final = named_table(monthly_tables(APPLICATION), "user_behavior_events")
