"""How much waits for the archive and for deletion. Reads only, and by the planner's estimate where rows may be many."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from lifecycle.database import Connection, value
from lifecycle.policy import CHAT_ARCHIVE, VOUCHERS

ARCHIVABLE: Final = "explain (format json) select from public.chat_messages where created_at < %(cutoff)s"
# The condition of public.delete_expired_vouchers (revision 0009), without the redemptions that still hold one.
EXPIRED: Final = """
explain (format json)
select from public.vouchers v
 cross join (select (%(now)s::timestamptz at time zone 'UTC' - %(keep_for)s::interval) at time zone 'UTC') c(cutoff)
 where v.created_at < c.cutoff and coalesce(v.valid_until, v.created_at) < c.cutoff
"""


@dataclass(frozen=True)
class RetentionPlan:
    """About how many rows of a table the next run of a job would take; None where the table is missing."""

    table: str
    job: str
    kept: str
    rows: int | None


def plan_retention(conn: Connection, now: datetime) -> tuple[RetentionPlan, ...]:
    """The chat's archive and the vouchers."""
    days = f"{CHAT_ARCHIVE.keep_for.days} days"
    cutoff = {"cutoff": now - CHAT_ARCHIVE.keep_for}
    expired = {"now": now, "keep_for": VOUCHERS.keep_for}
    return (
        _plan(conn, "public.chat_messages", "archive_chat_messages", days, ARCHIVABLE, cutoff),
        _plan(conn, "public.vouchers", "delete_expired_vouchers", VOUCHERS.keep_for, EXPIRED, expired),
    )


def _plan(conn: Connection, table: str, job: str, kept: str, query: str, values: dict[str, Any]) -> RetentionPlan:
    found = value(conn, "select to_regclass(%s)", (table,)) is not None
    return RetentionPlan(table, job, kept, round(value(conn, query, values)[0]["Plan"]["Plan Rows"]) if found else None)
