"""What the timetable starts, for the assets that look whether it did: they may not import the schedules."""

import dagster as dg
from pydantic import Field


class Timetable(dg.ConfigurableResource):
    """The jobs that schedules start."""

    jobs: list[str] = Field(description="names of the jobs that a schedule starts")
