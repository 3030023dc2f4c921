"""Tells the watchdog outside that a day went well: the daily run was started, done, and seen to be done.

Nothing else tells of a machine that is off, a daemon that hangs, or definitions that do not load: who is silent sends
no alarm. So the watchdog alarms where it hears nothing.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from lifecycle.errors import NotDeliveredError
from resources.variables import WATCHDOG_VARIABLE
from resources.watchdog import Watchdog

# The first of these that there is; each is started once a day.
DAILY_JOBS: Final = ("run_daily_maintenance", "record_storage")
# What went well longer ago says nothing of today.
RECENT: Final = timedelta(days=1)


def daily_job(context: dg.SensorEvaluationContext) -> str:
    """The job whose success is told."""
    there = context.repository_def.job_names if context.repository_def else DAILY_JOBS
    return next(job for job in DAILY_JOBS if job in there)


@dg.sensor(
    name="watchdog",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    description="Calls an address outside when the daily maintenance succeeded; where no call comes, somebody alarms.",
)
def watchdog(context: dg.SensorEvaluationContext, watchdog: Watchdog) -> dg.SensorResult:
    """Tell of the newest success once; what could not be told is tried again at the next look."""
    if not watchdog.url:
        return dg.SensorResult(skip_reason=f"nobody outside watches: set {WATCHDOG_VARIABLE}", cursor=context.cursor)
    job, since = daily_job(context), datetime.now(UTC) - RECENT
    wanted = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS], updated_after=since)
    newest = context.instance.get_runs(wanted, limit=1)
    if not newest or newest[0].run_id == context.cursor:
        return dg.SensorResult(skip_reason=f"no success of {job} is new", cursor=context.cursor)
    try:
        watchdog.call()
    except NotDeliveredError as error:
        context.log.warning(str(error))
        return dg.SensorResult(skip_reason=f"tried again: {error}", cursor=context.cursor)
    return dg.SensorResult(skip_reason=f"the success of {job} is told", cursor=newest[0].run_id)
