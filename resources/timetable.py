"""The names of the jobs, for the assets that look what became of them: they may not import jobs and schedules."""

import dagster as dg
from pydantic import Field


class Timetable(dg.ConfigurableResource):
    """The jobs that there are, and which of them schedules start."""

    jobs: list[str] = Field(description="names of the jobs that a schedule starts")
    by_hand: list[str] = Field(default=[], description="names of the jobs that none starts")
