"""How long a run may take at most: one that hangs is ended then, whoever started it. Not how long it should take."""

from collections.abc import Mapping
from typing import Final

MAX_RUNTIME_TAG: Final = "dagster/max_runtime"
HOUR: Final = 3600
# A job that is not named here; `dagster.yaml` says the same for assets that are materialized by hand.
MOST_SECONDS: Final = 6 * HOUR
MOST_SECONDS_OF: Final[Mapping[str, int]] = {
    # Copies whole tables; goes on where it stopped when it is launched again.
    "convert_event_tables": 72 * HOUR,
    "build_hot_query_indexes": 24 * HOUR,
    # A month of a large table is read, written, sent and fetched again.
    "move_cold_months": 24 * HOUR,
    # Hourly jobs: the next one is more use than a run that hangs.
    "refresh_analytics_hourly": 2 * HOUR,
    "refresh_derived_statistics": 2 * HOUR,
    "refresh_account_segments": 2 * HOUR,
    "apply_consents": 2 * HOUR,
    # The next batch of people waits behind it.
    "erase_personal_data": 3 * HOUR,
    "compare_access": HOUR,
    "check_declarations": HOUR,
    "prune_dagster_storage": HOUR,
    "record_storage": HOUR,
    "weekly_job_review": HOUR,
}


def limits(job: str) -> dict[str, str]:
    """The tag of a job by which Dagster's run monitoring ends a run that takes too long."""
    return {MAX_RUNTIME_TAG: str(MOST_SECONDS_OF.get(job, MOST_SECONDS))}
