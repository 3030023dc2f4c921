"""Runs that never started: the launcher or the code server failed, or the run waited for its process too long.

Dagster marks such a run as failed "from outside" and keeps the reason in an event of its engine.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from resources.dagster_private import schedule_execution_time_iterator

# A line of an alert holds 400 characters; what comes after the reason must still be read.
REASON_LENGTH: Final = 240
# Dagster begins some with the name of the class, which tells people nothing.
CLASS: Final = r"^(?:\w+\.)+\w+: "
# Jobs that a sensor asks for, and what it does after such a failure.
ASKED_FOR: Final = {"erase_personal_data": "it is asked for again within a minute"}


def engine_error(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """The first line of the newest error that Dagster's engine reported of a run; None where it reported none."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, ascending=False).records
    for record in records:
        event = record.event_log_entry.get_dagster_event()
        if event.event_specific_data is not None and (error := event.engine_event_data.error):
            lines = error.message.strip().splitlines() or [error.cls_name or "an error without words"]
            return re.sub(CLASS, "", lines[0])[:REASON_LENGTH]
    return None


def next_start(schedules: Sequence[dg.ScheduleDefinition], job: str, now: datetime) -> str | None:
    """When the timetable starts a job next, for people; None where it never does."""
    starts = []
    for schedule in schedules:
        if schedule.job_name == job and isinstance(schedule.cron_schedule, str):
            zone = schedule.execution_timezone or "UTC"
            start = next(schedule_execution_time_iterator(now.timestamp(), schedule.cron_schedule, zone, True))
            starts.append((start.astimezone(UTC), f"{start:%Y-%m-%d %H:%M} {zone}"))
    return min(starts)[1] if starts else None


def tried_again(schedules: Sequence[dg.ScheduleDefinition], job: str, now: datetime) -> str:
    """Whether and when a job that did not start is started again by itself."""
    if job in ASKED_FOR:
        return ASKED_FOR[job]
    start = next_start(schedules, job, now)
    return (
        f"the timetable starts it again at {start}, or launch it now" if start else "nothing starts it again: launch it"
    )


def told(reason: str, again: str) -> str:
    """One line for the ledger and the alert."""
    return f"the run did not start: {' '.join(reason.split())[:REASON_LENGTH].rstrip('. ')}; {again}"
