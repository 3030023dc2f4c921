"""What a person who reads an alert does first: one short sentence per job."""

from typing import Final

from lifecycle.language import _, language, translatable
from lifecycle.ledger.problems import CHECK, STALE
from sensors.ownership import BY_HAND

PAGE: Final = "docs/how-to/read-an-alert-or-a-failed-run.md"
# The page in the languages that it is written in.
PAGES: Final = {"ja": "docs/ja/read-an-alert.md"}

NEXT_STEPS: Final = {
    "convert_event_tables": translatable(
        "Read the error; nothing is lost and the application goes on. Launch the job again."
    ),
    "rotate_event_partitions": translatable(
        "Not urgent: months are made in advance. Cure what the error names, rotate again."
    ),
    "run_daily_maintenance": translatable("Dashboards show older numbers. Cure what the error names, launch it again."),
    "refresh_analytics_hourly": translatable(
        "The views keep their last contents. Cure what the error names, launch it again."
    ),
    "refresh_derived_statistics": translatable(
        "The statistics keep their last rows. Cure what the error names, launch it again."
    ),
    "refresh_account_segments": translatable(
        "Recommendations use the last segments. Cure what the error names, launch it again."
    ),
    "apply_consents": translatable("Withdrawals wait, none is lost. Cure what the error names, launch it again."),
    "archive_chat_messages": translatable(
        "Old messages wait; none is lost. Cure what the error names, launch it again."
    ),
    "move_cold_months": translatable(
        "Months stay in the database, none is lost. Cure what the error names, launch it again."
    ),
    "delete_expired_vouchers": translatable("Vouchers are kept too long. Cure what the error names, launch it again."),
    "build_hot_query_indexes": translatable("Some queries are slower. Cure what the error names, launch it again."),
    "erase_personal_data": translatable("Tried again by itself. Cure what the error names; the deadline goes on."),
    "compare_access": translatable("Who may see what was not compared. Cure what the error names, launch it again."),
    "reconcile_statistics": translatable(
        "Statistics may differ from their sources. Cure what the error names, launch it again."
    ),
    "check_declarations": translatable("Run `lifecycle check`: it prints the lines to declare, and in which file."),
    "prune_dagster_storage": translatable("Dagster's storage grows. Cure what the error names, launch it again."),
    "record_storage": translatable("The next review compares older sizes. Cure what the error names, launch it again."),
    "weekly_job_review": translatable("The review was not sent. Cure what the error names, launch it again."),
    BY_HAND: translatable("Cure what the error names, materialize the assets again."),
}
DEFAULT_STEP: Final = translatable("Cure what the error names, launch the job again.")
STALE_STEP: Final = translatable("Stale: do its job's runs succeed, is its schedule on, does the daemon run?")
OUTAGE_STEPS: Final = (
    translatable("Is the server up, its disk full, its address or password changed, its project paused?"),
    translatable(
        "Runs try again for three minutes, then fail; sensors wait. No message is lost: they come when it answers."
    ),
)
CHECK_STEP: Final = translatable("Check: look up its name in the page below.")


def job_title(job: str) -> str:
    """A job as people call it."""
    return _("Materialization by hand") if job == BY_HAND else job


def next_steps(job: str, causes: list[str]) -> list[str]:
    """What to do about these causes of a job, the most general last."""
    steps = []
    if any(cause.startswith(CHECK) for cause in causes):
        steps.append(_(CHECK_STEP))
    if any(cause.startswith(STALE) for cause in causes):
        steps.append(_(STALE_STEP))
    if any(not cause.startswith((CHECK, STALE)) for cause in causes):
        steps.append(_(NEXT_STEPS.get(job, DEFAULT_STEP)))
    return [*steps, _page_line()]


def outage_steps() -> list[str]:
    """What to do while the database is away."""
    return [*(_(step) for step in OUTAGE_STEPS), _page_line()]


def _page_line() -> str:
    return _("All errors and checks: {page}").format(page=PAGES.get(language(), PAGE))
