"""What is kept, for how long, and with which patience: the one place where these values live.

`lifecycle migrate` copies the event tables into `lifecycle.event_table_policies` and the segments into
`lifecycle.segment_policy`, where the database functions read them. `docs/reference/retention.md` is generated from
here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
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

PARTITION_SCHEMA: Final = "event_partitions"
STATE_SCHEMA: Final = "lifecycle"


@dataclass(frozen=True)
class LockPolicy:
    """How long a statement may make others wait behind it, and how often it tries again.

    Times in seconds. A waiting ACCESS EXCLUSIVE request stalls every writer that comes after it, so each
    try is short and the pauses between tries grow.
    """

    timeout: float = 0.05
    tries: int = 120
    first_pause: float = 0.1
    longest_pause: float = 2.0


LOCKS: Final = LockPolicy()
# Rotation is one transaction, behind which an ALTER TABLE of the application would wait: about half a minute.
ROTATION_LOCKS: Final = LockPolicy(tries=30)


@dataclass(frozen=True)
class SegmentPolicy:
    """How tastes and interactions become the tags that an account likes.

    `questions` are the quiz questions whose answers are slugs of activity_tags. An interaction counts its weight,
    halved once per `half_life` (a PostgreSQL interval); types without a weight do not count. A tag's score is
    `quiz_weight` when it was chosen, plus up to `interaction_weight`. `version` is that of the stored document: raise
    it when the application must read it differently.
    """

    version: int = 1
    questions: tuple[str, ...] = (
        "dietary_preferences",
        "favorite_themes",
        "travel_party",
        "atmosphere",
        "rainy_day_plan",
    )
    # Looking costs nothing; keeping and passing on say more, and most of all going there.
    interaction_weights: Mapping[str, int] = field(
        default_factory=lambda: MappingProxyType(
            {"view": 1, "like": 3, "bookmark": 3, "ai_save": 3, "share": 3, "qr_scan": 5, "book": 5}
        )
    )
    half_life: str = "60 days"
    # What people say they like comes before what they clicked on.
    quiz_weight: float = 0.6
    interaction_weight: float = 0.4
    # An edit of a profile waits for the batch that holds it: some tenths of a second for so many accounts.
    batch_size: int = 1000


SEGMENTS: Final = SegmentPolicy()


def event_table(name: str) -> EventTable:
    """The policy of one event table, by bare or qualified name; KeyError names the known tables."""
    for table in EVENT_TABLES:
        if name in (table.name, table.qualified_name):
            return table
    known = ", ".join(table.name for table in EVENT_TABLES)
    raise KeyError(f"no event table named {name!r}; known: {known}")
