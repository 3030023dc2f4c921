"""The job that runs the application's own daily maintenance."""

from typing import Final

import dagster as dg
from psycopg import sql

from lifecycle.database import value, without_statement_timeout
from lifecycle.declarations.database import Maintenance
from orchestration.executor import living_in_process_executor
from orchestration.limits import limits
from resources.postgres import ApplicationDatabase, retried_when_busy

POOL: Final = "maintenance"
JOB: Final = "run_daily_maintenance"


def maintenance_job(maintenance: Maintenance) -> dg.JobDefinition:
    """The job that calls the declared function and fails when its answer tells of a failure."""
    call = sql.SQL("select {}()::text").format(maintenance.function.identifier)

    @dg.op(pool=POOL)
    def maintain(context: dg.OpExecutionContext, database: ApplicationDatabase) -> None:
        """Call the database function, which works without Dagster too."""
        with retried_when_busy(), database.connect() as conn, without_statement_timeout(conn):
            answer = "; ".join(str(row[0]) for row in conn.execute(call))
            # An error that the function swallowed may quote a row.
            shown = value(conn, "select lifecycle.first_line(%s)", (answer,))
        if maintenance.failure in answer:
            raise dg.Failure(f"{maintenance.function}() answered: {shown}", allow_retries=False)
        context.log.info(shown)

    @dg.job(
        name=JOB,
        executor_def=living_in_process_executor,
        tags=limits(JOB),
        description=f"The application's own {maintenance.function}().",
    )
    def run_daily_maintenance() -> None:
        maintain()

    return run_daily_maintenance
