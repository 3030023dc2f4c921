"""The declarations as shipped, and the event tables in them."""

from pathlib import Path
from typing import Final

from lifecycle.declarations.loader import load_application
from lifecycle.partitions.tables import MonthlyTable, monthly_tables, named_table

APPLICATION_FOLDER: Final = Path(__file__).parents[1] / "application"
APPLICATION: Final = load_application(APPLICATION_FOLDER)
# For tests about something else: to keep twenty views takes some seconds of every migration.
WITHOUT_KEPT_VIEWS: Final = APPLICATION.model_copy(
    update={"views": APPLICATION.views.model_copy(update={"kept": {}, "dashboards": {}})}
)
EVENT_TABLES: Final = monthly_tables(APPLICATION)


def event_table(name: str) -> MonthlyTable:
    """One of the declared event tables."""
    return named_table(EVENT_TABLES, name)
