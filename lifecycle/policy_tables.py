"""The policy, written into the tables where the database functions read it."""

from psycopg import sql
from psycopg.types.json import Jsonb

from lifecycle.policy import (
    CHAT_ARCHIVE,
    DATA_QUALITY,
    EVENT_TABLES,
    MATERIALIZED_VIEWS,
    ROTATION_LOCKS,
    SEGMENTS,
    VOUCHERS,
)

WRITE_POLICY = sql.SQL(
    """insert into lifecycle.event_table_policies
    (schema_name, table_name, time_column, retention, months_ahead, lock_timeout_ms, lock_tries)
values ({schema}, {name}, {time_column}, {retention}, {months_ahead}, {lock_timeout_ms}, {lock_tries})
on conflict (schema_name, table_name) do update set
    time_column = excluded.time_column, retention = excluded.retention, months_ahead = excluded.months_ahead,
    lock_timeout_ms = excluded.lock_timeout_ms, lock_tries = excluded.lock_tries"""
)

FORGET_QUALITY = sql.SQL("delete from lifecycle.data_quality_thresholds")
WRITE_QUALITY = sql.SQL(
    "insert into lifecycle.data_quality_thresholds (metric_name, threshold, healthy_if) values ({}, {}, {})"
)
FORGET_VIEWS = sql.SQL("delete from lifecycle.materialized_view_policies")
WRITE_VIEW = sql.SQL(
    """insert into lifecycle.materialized_view_policies (schema_name, view_name, sources, max_age)
values ({}, {}, {}, {})"""
)
# What fails of a view that the policy no longer names would never be reported well again.
FORGET_PROBLEMS = sql.SQL(
    """select lifecycle.report_outcome(p.job, p.cause, null) from lifecycle.open_problems p
 where p.job = 'refresh_analytics_hourly' and p.cause not in ('', 'account_function_usage')
   and p.cause !~ '^(run of|check|stale) '
   and not exists (select from lifecycle.materialized_view_policies v where v.view_name = p.cause)"""
)
# A policy that is already there is not written again: writing it asks for everybody's segments anew.
WRITE_SEGMENT_POLICY = sql.SQL(
    """insert into lifecycle.segment_policy as held
    (version, questions, interaction_weights, half_life, quiz_weight, interaction_weight)
values ({version}, {questions}, {interaction_weights}, {half_life}, {quiz_weight}, {interaction_weight})
on conflict (singleton) do update set
    version = excluded.version, questions = excluded.questions, interaction_weights = excluded.interaction_weights,
    half_life = excluded.half_life, quiz_weight = excluded.quiz_weight,
    interaction_weight = excluded.interaction_weight
where held is distinct from excluded"""
)
WRITE_RETENTION = sql.SQL(
    """insert into lifecycle.retention_policies (name, keep_for, batch_size) values ({}, {}, {})
on conflict (name) do update set keep_for = excluded.keep_for, batch_size = excluded.batch_size"""
)


def policy_statements() -> list[sql.SQL | sql.Composed]:
    """Fill the policy tables from lifecycle/policy.py, in one transaction."""
    return [
        *event_table_statements(),
        *statistics_statements(),
        _segments(),
        *_retention(),
    ]


def statistics_statements() -> list[sql.SQL | sql.Composed]:
    """Thresholds and materialized views, as revision 0004 knows them."""
    thresholds = [
        WRITE_QUALITY.format(*map(sql.Literal, (quality.metric_name, quality.threshold, quality.healthy_if)))
        for quality in DATA_QUALITY
    ]
    views = [
        WRITE_VIEW.format(*map(sql.Literal, (view.schema, view.name, list(view.sources), view.max_age)))
        for view in MATERIALIZED_VIEWS
    ]
    return [FORGET_QUALITY, *thresholds, FORGET_VIEWS, *views, FORGET_PROBLEMS]


def event_table_statements() -> list[sql.SQL | sql.Composed]:
    """Retention and patience of each event table."""
    return [
        WRITE_POLICY.format(
            schema=sql.Literal(table.schema),
            name=sql.Literal(table.name),
            time_column=sql.Literal(table.time_column),
            retention=sql.SQL("interval {}").format(sql.Literal(table.retention)),
            months_ahead=sql.Literal(table.months_ahead),
            lock_timeout_ms=sql.Literal(round(ROTATION_LOCKS.timeout * 1000)),
            lock_tries=sql.Literal(ROTATION_LOCKS.tries),
        )
        for table in EVENT_TABLES
    ]


def _segments() -> sql.Composed:
    return WRITE_SEGMENT_POLICY.format(
        version=sql.Literal(SEGMENTS.version),
        questions=sql.Literal(list(SEGMENTS.questions)),
        interaction_weights=sql.Literal(Jsonb(dict(SEGMENTS.interaction_weights))),
        half_life=sql.SQL("interval {}").format(sql.Literal(SEGMENTS.half_life)),
        quiz_weight=sql.Literal(SEGMENTS.quiz_weight),
        interaction_weight=sql.Literal(SEGMENTS.interaction_weight),
    )


def _retention() -> list[sql.Composed]:
    kept = {
        "chat_messages": (f"{CHAT_ARCHIVE.keep_for.days} days", CHAT_ARCHIVE.batch_size),
        "vouchers": (VOUCHERS.keep_for, VOUCHERS.batch_size),
    }
    return [
        WRITE_RETENTION.format(
            sql.Literal(name), sql.SQL("interval {}").format(sql.Literal(keep_for)), sql.Literal(batch_size)
        )
        for name, (keep_for, batch_size) in kept.items()
    ]
