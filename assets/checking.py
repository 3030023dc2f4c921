"""The declarations as an asset: compared with the database every day, and told to people where they differ."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import dagster as dg

from assets.bundle import Bundle
from assets.checks import listed
from assets.tables import table_metadata
from lifecycle.checking.check import check_declarations
from lifecycle.checking.mismatch import Mismatch
from lifecycle.declarations.application import Application
from lifecycle.ledger.problems import open_causes, record
from resources.postgres import ApplicationDatabase, retried_when_busy

KEY: Final = dg.AssetKey(["lifecycle", "declarations"])
JOB: Final = "check_declarations"
# What people read as the cause in Slack.
CAUSE: Final = "declarations"
CHECK: Final = "declarations_match_the_database"
POOL: Final = "operations"
GROUP: Final = "operations"
OWNERS: Final = ["team:data-platform"]
# Compared every day: a day and two hours late is worth a look, two days late is a fault.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
COLUMNS: Final = {
    "object": ("string", "what differs"),
    "what": ("string", "how the database and the declarations differ in it"),
    "file": ("string", "file of the declarations to correct"),
    "lines": ("string", "lines to paste there, where they can be derived"),
}


def told(found: Sequence[Mismatch]) -> str:
    """The differences in one line."""
    if not found:
        return "no difference"
    return f"{len(found)} differences: {listed([mismatch.object for mismatch in found])}. `lifecycle check` tells more"


def bundle(application: Application) -> Bundle:
    """The comparison, whatever is declared."""

    @dg.asset(
        key=KEY,
        group_name=GROUP,
        description=(
            "The declarations against the database, as `lifecycle check` compares them: declared objects that are "
            "gone, new ones that nothing is declared of, functions of ours that somebody changed."
        ),
        kinds={"postgres"},
        owners=OWNERS,
        freshness_policy=FRESHNESS,
        pool=POOL,
        code_version="1",
        check_specs=[
            dg.AssetCheckSpec(
                CHECK, asset=KEY, description="Declarations and database agree; a warning, and one to Slack, if not."
            )
        ],
    )
    def declarations(database: ApplicationDatabase) -> dg.MaterializeResult:
        with retried_when_busy(), database.connect() as conn:
            found = check_declarations(conn, application)
            if found or open_causes(conn, CAUSE, JOB):
                record(conn, JOB, CAUSE, told(found) if found else None)
        records = [(each.object, each.told, each.file, each.lines) for each in found]
        return dg.MaterializeResult(
            metadata={"differences": len(found), "found": table_metadata(COLUMNS, records)},
            check_results=[
                dg.AssetCheckResult(
                    passed=not found,
                    check_name=CHECK,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=told(found),
                    metadata={"differences": len(found)},
                )
            ],
        )

    return Bundle(assets=[declarations])
