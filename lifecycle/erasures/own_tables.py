"""This project's own tables on the map of personal data, the whole map, and its way into the policy tables."""

from typing import Final

from psycopg import sql
from psycopg.types.json import Jsonb

from lifecycle.erasures.activity_tables import CONVERSATIONS, EVENT_TABLES
from lifecycle.erasures.data_map import Action, Key, Step, Table, Treatment
from lifecycle.erasures.person_tables import BOOKINGS, CATALOGUE, PEOPLE
from lifecycle.policy import ERASURE, STATE_SCHEMA

DERIVED: Final = "made anew from the application's tables, after a person's rows have left them"
STATE: Final = "settings, names of objects and counts"
REFRESHED: Final = {"*": (Treatment.refreshed, DERIVED)}
CLEAN: Final = {"*": (Treatment.clean, STATE)}

ROLL_UPS: Final = (
    "changed_chat_hours",
    "changed_chat_sessions",
    "changed_activity",
    "pending_recounts",
    "chat_session_hours",
    "function_usage_hourly",
    "chat_performance_history",
    "account_session_days",
    "data_quality_hourly",
    "function_usage_totals",
    "chat_performance_metrics",
    "data_quality_metrics",
    "daily_active_users",
    "weekly_monthly_active_users",
    "user_engagement_scores",
    "feature_usage_summary",
    "chat_usage_by_account",
    "hourly_usage_patterns",
)
STATE_TABLES: Final = (
    "event_table_policies",
    "partition_conversions",
    "original_functions",
    "original_relations",
    "open_problems",
    "notifications",
    "roll_up_watermarks",
    "data_quality_thresholds",
    "materialized_view_policies",
    "refresh_states",
    "segment_policy",
    "storage_history",
    "retention_policies",
    "access_changes",
    "accepted_access",
    "erasure_policy",
    "erasure_steps",
    "personal_data_columns",
    "erasure_counts",
    "erasure_scans",
    "erasure_findings",
    "erasure_receipts",
    "erasure_secret",
    "suppressions",
    "index_plans",
)
OWN_TABLES: Final = (
    *(Table(name, DERIVED, columns=REFRESHED, schema=STATE_SCHEMA) for name in ROLL_UPS),
    *(Table(name, STATE, columns=CLEAN, schema=STATE_SCHEMA) for name in STATE_TABLES),
    Table(
        "restored_chat_sessions",
        "goes with the chat session",
        columns={"session_id": (Treatment.deleted, "goes with the chat session")},
        schema=STATE_SCHEMA,
    ),
    Table(
        "deletion_jobs",
        "the queue",
        columns={
            "account_id": (Treatment.exempt, "ties the proof to the request, to find what comes back"),
            "*": (Treatment.clean, STATE),
        },
        schema=STATE_SCHEMA,
    ),
)
# The application's materialized views: made anew when a person still stands in them.
VIEWS: Final = tuple(
    Table(name, DERIVED, columns=REFRESHED) for name in ("top_search_keywords", "daily_user_behavior_summary")
)
# Last: the deletes before it make the application's triggers note accounts here.
LAST: Final = (
    Table(
        "changed_segment_accounts",
        "accounts whose segments wait; an erased one has none",
        (Step("account_id", Key.account, Action.delete),),
        schema=STATE_SCHEMA,
    ),
)
DATA_MAP: Final = (*EVENT_TABLES, *CONVERSATIONS, *BOOKINGS, *PEOPLE, *CATALOGUE, *VIEWS, *OWN_TABLES, *LAST)

WRITE_POLICY = sql.SQL(
    """insert into lifecycle.erasure_policy as held
    (version, grace, deadline, lease, batch_size, chunk_size, first_pause, longest_pause, tries_until_failed,
     lock_timeout_ms, late_window, calendar, managed_schemas)
values ({version}, {grace}, {deadline}, {lease}, {batch_size}, {chunk_size}, {first_pause}, {longest_pause},
        {tries_until_failed}, {lock_timeout_ms}, {late_window}, {calendar}, {managed_schemas})
on conflict (singleton) do update set
    version = excluded.version, grace = excluded.grace, deadline = excluded.deadline, lease = excluded.lease,
    batch_size = excluded.batch_size, chunk_size = excluded.chunk_size, first_pause = excluded.first_pause,
    longest_pause = excluded.longest_pause, tries_until_failed = excluded.tries_until_failed,
    lock_timeout_ms = excluded.lock_timeout_ms, late_window = excluded.late_window, calendar = excluded.calendar,
    managed_schemas = excluded.managed_schemas"""
)
FORGET_MAP = sql.SQL("delete from lifecycle.erasure_steps; delete from lifecycle.personal_data_columns")
WRITE_STEP = sql.SQL(
    """insert into lifecycle.erasure_steps
    (step, table_name, key_column, key_kind, action, unowned_column, replacements, reason)
values ({}, {}, {}, {}, {}, {}, {}, {})"""
)
WRITE_COLUMN = sql.SQL(
    "insert into lifecycle.personal_data_columns (table_name, column_name, treatment, reason) values ({}, {}, {}, {})"
)


def erasure_policy_statements() -> list[sql.SQL | sql.Composed]:
    """Write the policy and the map of personal data into their tables."""
    steps = [(table, step) for table in DATA_MAP for step in table.steps]
    return [
        WRITE_POLICY.format(
            **{name: sql.Literal(value) for name, value in vars(ERASURE).items() if name != "managed_schemas"},
            managed_schemas=sql.Literal(list(ERASURE.managed_schemas)),
        ),
        FORGET_MAP,
        *(
            WRITE_STEP.format(
                *map(
                    sql.Literal,
                    (number, table.qualified_name, step.key_column, step.key.value, step.action.value, step.unowned),
                ),
                sql.Literal(Jsonb(dict(step.replacements))),
                sql.Literal(table.reason),
            )
            for number, (table, step) in enumerate(steps, 1)
        ),
        *(
            WRITE_COLUMN.format(*map(sql.Literal, (table.qualified_name, column, treatment.value, reason)))
            for table in DATA_MAP
            for column, (treatment, reason) in table.treatments().items()
        ),
    ]
