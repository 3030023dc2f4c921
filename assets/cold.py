"""Months of event tables in object storage: one asset per table, made by moving what is old enough."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg
from pydantic import Field

from assets.bundle import Bundle
from assets.cold_checks import cold_checks
from assets.keys import key_of, step_name
from assets.partitions import partitions_key
from assets.progress import log_progress
from assets.stored_once import stored_once
from assets.tables import table_metadata
from assets.units import size_text
from lifecycle.cold.cost import MonthlyCost, monthly_cost
from lifecycle.cold.due import MonthToMove, months_to_move
from lifecycle.cold.fill_narrow import fill_narrow_months
from lifecycle.cold.move import MonthMoved, move_month
from lifecycle.cold.status import ColdStatus, cold_status
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.tables import ColdTable, chosen_month, cold_tables
from lifecycle.cold.upkeep import Upkeep, keep_up
from lifecycle.declarations.application import Application
from lifecycle.errors import AlreadyRunningError, LifecycleError
from lifecycle.pacing import pacing_of
from resources.cold_storage import ColdMonths
from resources.postgres import ApplicationDatabase, retried_when_busy

JOB: Final = "move_cold_months"
GROUP: Final = "cold_months"
MONTH_TAG: Final = "lifecycle/month"
OWNERS: Final = ["team:data-platform"]
CODE_VERSION: Final = "1"
# A run a day puts changed rows back and removes what is past retention, whether or not a month is due.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))

MOVED_COLUMNS: Final = {
    "month": ("string", "the month, in UTC"),
    "rows": ("int", "rows that left the database"),
    "files": ("int", "files that hold them"),
    "before": ("string", "room that they took, with indexes"),
    "after": ("string", "room that the files take"),
    "seconds": ("float", "from the first step to the last"),
}
MONTH_COLUMNS: Final = {
    "month": ("string", "the month, in UTC"),
    "rows": ("int", "its rows in files"),
    "files": ("int", "its files"),
    "size": ("string", "what they take"),
    "before": ("string", "what the month took in the database, with indexes"),
}
UPKEEP_COLUMNS: Final = {
    "put_back": ("int", "changed rows that went back into files"),
    "followed": (
        "int",
        "rows that lost a value or went, since what they pointed to is gone, as their foreign key says",
    ),
    "expired": ("int", "files of months past retention"),
    "removed": ("int", "objects that left the store, and were seen to be gone"),
    "unknown": ("int", "objects that no row of the manifest knew, among them"),
    "uploads": ("int", "unfinished uploads that were taken back"),
}

DANGLING_COLUMNS: Final = {
    "foreign_key": ("string", "foreign key without an ON DELETE that says what becomes of its rows"),
    "rows": ("int", "rows in files that point to rows that are gone; they stay as they are"),
}


class ColdMonthsConfig(dg.Config):
    """What a run moves."""

    month: int = Field(
        default=0,
        description="move this month alone, such as 202607; 0 moves every month that is due, the oldest first",
    )


def cold_key(table: ColdTable) -> dg.AssetKey:
    """The asset of one table's cold months."""
    return key_of("cold_months", table.relation)


def moved_metadata(moved: Sequence[MonthMoved]) -> dict[str, Any]:
    """What left the database in a run."""
    records = [
        (
            f"{each.month:%Y-%m}",
            each.rows,
            each.files,
            size_text(each.hot_bytes),
            size_text(each.cold_bytes),
            each.seconds,
        )
        for each in moved
    ]
    return {
        "months_moved": len(moved),
        "rows_moved": sum(each.rows for each in moved),
        "moved": table_metadata(MOVED_COLUMNS, records),
    }


def status_metadata(status: ColdStatus, cost: MonthlyCost | None) -> dict[str, Any]:
    """A table's months in files as metadata: counts, sizes, what they cost, and the picture; never a row."""
    from assets.cold_chart import cold_chart_markdown

    records = [
        (f"{each.month:%Y-%m}", each.rows, each.files, size_text(each.bytes), size_text(each.hot_bytes))
        for each in status.months
    ]
    metadata: dict[str, Any] = {
        "picture": dg.MetadataValue.md(cold_chart_markdown(status)),
        "dagster/row_count": status.cold_rows,
        "months": len(status.months),
        "hot_bytes": status.hot_bytes,
        "held_bytes": status.held_bytes,
        "cold_bytes": status.cold_bytes,
        "bytes_before": status.bytes_before,
        "due": len(status.due),
        "thawed_rows": status.thawed_rows,
        "to_remove": status.to_remove,
        "files": table_metadata(MONTH_COLUMNS, records),
    }
    if status.cold_bytes:
        metadata["times_smaller"] = round(status.bytes_before / status.cold_bytes, 1)
    if cost is not None:
        metadata["cost_a_month"] = str(cost.told)
    return metadata


def _upkeep_metadata(upkeep: Upkeep) -> dict[str, Any]:
    swept = upkeep.swept
    removed = swept.retired + swept.unknown
    record = (
        *(upkeep.refrozen, upkeep.after_actions, upkeep.expired_files),
        *(removed, swept.unknown, swept.uploads),
    )
    metadata = {"upkeep": table_metadata(UPKEEP_COLUMNS, [record])}
    if upkeep.dangling:
        metadata["dangling"] = table_metadata(DANGLING_COLUMNS, list(upkeep.dangling.items()))
    return metadata


def move_and_describe(
    context: dg.AssetExecutionContext,
    application: Application,
    database: ApplicationDatabase,
    storage: ColdStorage,
    table: ColdTable,
    month: datetime | None,
) -> dg.MaterializeResult[None]:
    """Move what is due (of one month, or of all and then see to the rest), and describe how the table stands."""
    now = datetime.now(UTC)
    url = database.required_url()
    progress = log_progress(context)
    with database.connect() as conn:
        due = [each for each in months_to_move(conn, table, now) if month in (None, each.month)]
    pacing = pacing_of(application, JOB)
    # A view that came later reads more of cold months than the database has.
    filled = fill_narrow_months(url, table, storage, progress) if month is None else 0
    moved = []
    for each in due:
        try:
            moved.append(move_month(url, table, each, storage, pacing=pacing, progress=progress))
        except AlreadyRunningError:
            if month is not None:
                raise
            # A run of its own moves that month.
            context.log.info(f"{each.month:%Y-%m} is moved by another run")
    metadata = moved_metadata(moved)
    if filled:
        metadata["months_read_for_views"] = filled
    if month is None:
        metadata |= _upkeep_metadata(keep_up(url, table, storage, now, progress))
    with database.connect() as conn:
        status = cold_status(conn, table, now)
    cost = monthly_cost(application.operations.prices, status)
    return dg.MaterializeResult(metadata=status_metadata(status, cost) | metadata)


def cold_months_asset(application: Application, table: ColdTable) -> dg.AssetsDefinition:
    """The asset of one table's cold months."""

    @dg.asset(
        key=cold_key(table),
        deps=[partitions_key(table.table)],
        group_name=GROUP,
        description=(
            f"Months of `{table.relation}` older than {table.cold_after}, in Parquet files of the store of cold "
            f"months, until {table.table.retention} are over. Materializing it moves what is due, puts changed rows "
            "back into files, and removes what is past retention. They stay queryable (`lifecycle cold query`) and are "
            "erased like any row."
        ),
        kinds={"postgres", "parquet"},
        owners=OWNERS,
        tags={"cold_after": table.cold_after.replace(" ", "_")},
        metadata={"dagster/table_name": str(table.relation)},
        freshness_policy=FRESHNESS,
        code_version=CODE_VERSION,
    )
    def cold_months(
        context: dg.AssetExecutionContext,
        config: ColdMonthsConfig,
        database: ApplicationDatabase,
        cold_storage: ColdMonths,
    ) -> dg.MaterializeResult[None]:
        with retried_when_busy():
            month = chosen_month(f"{config.month // 100}-{config.month % 100:02}") if config.month else None
            storage = cold_storage.required()
            return stored_once(context, move_and_describe(context, application, database, storage, table, month))

    return cold_months


def runs_by_month(application: Application, database: ApplicationDatabase) -> list[dg.RunRequest]:
    """A run for each month that is due, so that several workers share them, and one for each table's other work.

    While the database is away that one alone: it finds what is due when it runs.
    """
    now = datetime.now(UTC)
    requests = []
    for table in cold_tables(application):
        asset = cold_key(table)
        due: Sequence[MonthToMove] = ()
        with suppress(LifecycleError, dg.Failure), database.connect() as conn:
            due = months_to_move(conn, table, now)
        for each in due:
            month = int(f"{each.month:%Y%m}")
            requests.append(
                dg.RunRequest(
                    run_key=f"{table.relation} {month} {now:%Y-%m-%d %H:%M}",
                    run_config={"ops": {step_name(asset): {"config": {"month": month}}}},
                    asset_selection=[asset],
                    tags={MONTH_TAG: f"{each.month:%Y-%m}"},
                )
            )
        requests.append(dg.RunRequest(run_key=f"{table.relation} {now:%Y-%m-%d %H:%M}", asset_selection=[asset]))
    return requests


def bundle(application: Application) -> Bundle:
    """Cold months of the tables that have them."""
    tables = cold_tables(application)
    return Bundle(
        assets=[cold_months_asset(application, table) for table in tables],
        checks=[cold_checks(table, cold_key(table)) for table in tables],
    )
