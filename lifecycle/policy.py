"""What is kept, for how long, and with which patience: the one place where these values live.

`lifecycle migrate` copies the event tables into `lifecycle.event_table_policies` and what is kept of chats and vouchers
into `lifecycle.retention_policies`, where the database functions read them. `docs/reference/retention.md` is generated
from here.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final


@dataclass(frozen=True)
class EventTable:
    """An event table of the application that is partitioned by month.

    `retention` is a PostgreSQL interval. A partition goes once its whole range is older than that.
    """

    name: str
    time_column: str
    retention: str
    reason: str
    schema: str = "public"
    months_ahead: int = 3

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"


EVENT_TABLES: Final = (
    EventTable(
        name="user_behavior_events",
        time_column="event_timestamp",
        retention="24 months",
        reason="two years show every season twice; nobody reads older visits row by row",
    ),
    EventTable(
        name="business_metrics_events",
        time_column="event_timestamp",
        retention="24 months",
        reason="year-on-year comparison of funnels and revenue",
    ),
    EventTable(
        name="session_replay_events",
        time_column="timestamp",
        retention="90 days",
        reason="replays hold typed text and serve debugging only; the least we can keep",
    ),
)


STATE_SCHEMA: Final = "lifecycle"

# A person who asks to be erased has a right to it within one month (GDPR, article 12).
DELETION_DEADLINE: Final = "1 month"
# Weeks of the review and deadlines of requests are counted by the calendar of the people who read them.
CALENDAR: Final = "Asia/Tokyo"


@dataclass(frozen=True)
class ChatArchivePolicy:
    """When messages of the chat move to the archive, and how many at a time.

    One batch is one transaction: at most `batch_size` messages, and no further one once they hold `batch_bytes` of
    text. A run moves at most `run_limit` messages and leaves the rest to the next one. A message that is older than
    `keep_for` by more than `grace` is a fault. A restored session stays out of the archive for `restored_for`.
    """

    keep_for: timedelta = timedelta(days=90)
    grace: timedelta = timedelta(days=1)
    # A batch's rows are locked for some tenths of a second; half as many take a tenth more time in all.
    batch_size: int = 10_000
    batch_bytes: int = 32_000_000
    run_limit: int = 2_000_000
    restored_for: timedelta = timedelta(days=30)
    reason: str = "conversations are looked up for some weeks; later the text is dead weight in the busiest table"


CHAT_ARCHIVE: Final = ChatArchivePolicy()


@dataclass(frozen=True)
class VoucherPolicy:
    """How long vouchers and their redemptions are kept, as a PostgreSQL interval, and how many go at a time."""

    keep_for: str = "36 months"
    batch_size: int = 1000
    reason: str = "settlements with vendors and the tax office look back three years"


VOUCHERS: Final = VoucherPolicy()
