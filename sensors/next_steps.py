"""What a person who reads an alert does first: one short sentence per job."""

from typing import Final

from lifecycle.ledger.problems import CHECK, STALE
from sensors.ownership import BY_HAND

PAGE: Final = "docs/how-to/read-an-alert-or-a-failed-run.md"

NEXT_STEPS: Final = {
    "convert_event_tables": "Read the error; nothing is lost and the application goes on. Launch the job again.",
    "rotate_event_partitions": "Not urgent: months are made in advance. Cure what the error names, rotate again.",
    "run_daily_maintenance": "Dashboards show older numbers. Cure what the error names, launch it again.",
    "refresh_analytics_hourly": "The views keep their last contents. Cure what the error names, launch it again.",
    "refresh_derived_statistics": "The statistics keep their last rows. Cure what the error names, launch it again.",
    "refresh_account_segments": "Recommendations use the last segments. Cure what the error names, launch it again.",
    "apply_consents": "Withdrawals wait, none is lost. Cure what the error names, launch it again.",
    "archive_chat_messages": "Old messages wait; none is lost. Cure what the error names, launch it again.",
    "delete_expired_vouchers": "Vouchers are kept too long. Cure what the error names, launch it again.",
    "build_hot_query_indexes": "Some queries are slower. Cure what the error names, launch it again.",
    "erase_personal_data": "Tried again by itself. Cure what the error names; the deadline goes on.",
    "compare_access": "Who may see what was not compared. Cure what the error names, launch it again.",
    "reconcile_statistics": "Statistics may differ from their sources. Cure what the error names, launch it again.",
    "check_declarations": "Run `lifecycle check`: it prints the lines to declare, and in which file.",
    "prune_dagster_storage": "Dagster's storage grows. Cure what the error names, launch it again.",
    "record_storage": "The next review compares older sizes. Cure what the error names, launch it again.",
    "weekly_job_review": "The review was not sent. Cure what the error names, launch it again.",
    BY_HAND: "Cure what the error names, materialize the assets again.",
}
DEFAULT_STEP: Final = "Cure what the error names, launch the job again."
STALE_STEP: Final = "Stale: do its job's runs succeed, is its schedule on, does the daemon run?"
OUTAGE_STEPS: Final = (
    "Is the server up, its disk full, its address or password changed, its project paused?",
    "Runs try again for three minutes, then fail; sensors wait. No message is lost: they come when it answers.",
    f"All errors and checks: {PAGE}",
)
CHECK_STEP: Final = "Check: look up its name in the page below."


def job_title(job: str) -> str:
    """A job as people call it."""
    return "Materialization by hand" if job == BY_HAND else job


def cause_title(cause: str) -> str:
    """What failed, as a heading."""
    return cause or "the run"


def next_steps(job: str, causes: list[str]) -> list[str]:
    """What to do about these causes of a job, the most general last."""
    steps = []
    if any(cause.startswith(CHECK) for cause in causes):
        steps.append(CHECK_STEP)
    if any(cause.startswith(STALE) for cause in causes):
        steps.append(STALE_STEP)
    if any(not cause.startswith((CHECK, STALE)) for cause in causes):
        steps.append(NEXT_STEPS.get(job, DEFAULT_STEP))
    return [*steps, f"All errors and checks: {PAGE}"]
