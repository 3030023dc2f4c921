"""Load the real data sets into an application database, and say what had to be invented."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sandbox.filling import Source, fill
from sandbox.real_data import commerce, dialogues, survey, weblogs
from sandbox.real_data.files import require_files
from sandbox.real_data.material import Material
from sandbox.rows.copying import Progress, bulk_copy

ARTIFICIAL: Final = (
    "Every data set is shifted by whole days to end now (the older web log 180, the vouchers 20 days ago); order, "
    "gaps and hours of the day inside a data set are the source's.",
    "Chat: the dialogues have no clock times; starts over 420 days and 50 seconds between messages are invented.",
    "Chat: latencies are measured ones of other chats (llmperf), paired with the assistant's messages in order.",
    "Chat: which account held a dialogue is invented; rows of role tool have no content, the source has none.",
    "Accounts are the survey's members; e-mail addresses are invented, and there is no consent in the source.",
    "Web logs: which account a person's requests belong to is invented; robots have none.",
    "Replays: two recordings of demo pages, repeated as if recorded during 120 answers to the survey.",
    "Vouchers: codes, e-mail addresses and the booking seven days before each real payment are invented.",
)

SOURCES: Final[tuple[Source[Material], ...]] = (
    Source("accounts", "id created_at updated_at", survey.accounts),
    Source("auth.users", "id email email_confirmed_at created_at", survey.users),
    Source("account_linkages", "account_id supabase_user_id linked_at", survey.linkages),
    Source("account_profiles", "account_id locale timezone demographics updated_at", survey.profiles),
    Source("activity_tags", "id slug name", commerce.tags),
    Source("activities", "id slug title summary description status metadata is_active", commerce.activities),
    Source("activity_tag_map", "activity_id tag_id", commerce.tag_map),
    Source("reviews", "id activity_id account_id comment created_at updated_at", survey.reviews),
    Source("vendors", "id name contact_phone metadata", commerce.vendors),
    Source(
        "form_submissions",
        "id experience_slug experience_title account_id email country status scans_used created_at updated_at",
        commerce.submissions,
    ),
    Source(
        "vouchers",
        "id form_submission_id voucher_code valid_from redemptions_used metadata created_at",
        commerce.vouchers,
    ),
    Source("voucher_redemptions", "id voucher_id scan_context scanned_at", commerce.redemptions),
    Source(
        "chat_sessions",
        "id account_id title started_at last_activity_at closed_at metadata",
        dialogues.session_lines,
    ),
    Source(
        "chat_messages",
        "id session_id role content tool_calls latency_ms created_at sequence",
        dialogues.message_lines,
    ),
    Source(
        "search_queries",
        "id account_id session_id search_query search_source search_context page_url searched_at created_at",
        dialogues.search_lines,
    ),
    Source(
        "user_behavior_events",
        "id account_id session_id event_timestamp page_url user_agent language timezone referrer actions "
        "engagement created_at",
        weblogs.behavior_events,
        bulk_copy,
    ),
    Source(
        "business_metrics_events",
        "id account_id session_id event_timestamp page_url experience_slug experience_title conversion_funnel "
        "revenue_metrics user_journey customer_satisfaction created_at",
        commerce.business_events,
        bulk_copy,
    ),
    Source("session_replay_events", "id session_id event_type event_data timestamp", survey.replays),
)


@dataclass(frozen=True)
class LoadReport:
    """Rows per table, and sentences that say what is not the sources' own."""

    rows: dict[str, int]
    artificial: tuple[str, ...]


def load(url: str, folder: Path, *, now: datetime, progress: Progress) -> LoadReport:
    """Fill the empty application database at `url` from the data sets in `folder` (one sub-folder each).

    `now` must know its zone; the data sets are shifted to end there. `progress(table, rows so far)` is called as
    tables grow. Raises SandboxError that names missing files, and for a database that has rows already.
    """
    require_files(folder)
    return LoadReport(fill(url, SOURCES, Material(folder, now), progress), ARTIFICIAL)
