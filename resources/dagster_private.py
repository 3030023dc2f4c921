"""Private modules of Dagster that we need, in one place: a new release is looked through here.

- `TimeWindowFreshnessPolicy`: what `FreshnessPolicy.time_window` returns, with the length of the window. Dagster
  offers no other way to ask a policy how old its asset may grow.
- `schedule_execution_time_iterator`: the moments of a cron expression in a time zone, as the daemon counts them; a
  library of ours would count otherwise at a change of the clocks.
"""

from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy
from dagster._utils.schedules import schedule_execution_time_iterator

__all__ = ["TimeWindowFreshnessPolicy", "schedule_execution_time_iterator"]
