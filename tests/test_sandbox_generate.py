"""Sample rows: the same for the same seed and clock, in every table, with the awkward ones among them."""

from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from lifecycle.errors import SandboxError
from sandbox.generate import SOURCES, generate

pytestmark = pytest.mark.one_server

NOW = datetime(2026, 3, 31, 23, 59, 59, 999999, tzinfo=UTC)


def silent(_table: str, _rows: int) -> None:
    pass


def fingerprints(url: str) -> dict[str, str]:
    with psycopg.connect(url) as conn:
        return {
            source.table: conn.execute(
                sql.SQL("select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from {} t").format(
                    sql.Identifier(*source.table.split("."))
                )
            ).fetchall()[0][0]
            for source in SOURCES
        }


@pytest.mark.every_version
def test_same_seed_same_rows(make_application_db):
    first, again, other = (make_application_db(rows=False) for _ in range(3))
    counts = generate(first, "small", seed=7, now=NOW, progress=silent)
    assert generate(again, "small", seed=7, now=NOW, progress=silent) == counts
    generate(other, "small", seed=8, now=NOW, progress=silent)
    marks = fingerprints(first)
    assert fingerprints(again) == marks
    changed = {table for table, mark in fingerprints(other).items() if mark != marks[table]}
    assert {"accounts", "chat_messages", "user_behavior_events", "session_replay_events"} <= changed


def test_every_table_has_rows(application_db):
    with psycopg.connect(application_db) as conn:
        tables = conn.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        for (table,) in tables:
            assert conn.execute(sql.SQL("select exists (select from {})").format(sql.Identifier(table))).fetchone() == (
                True,
            ), table


def test_progress_ends_with_the_number_of_rows(empty_application_db):
    seen: dict[str, int] = {}
    counts = generate(empty_application_db, "small", now=NOW, progress=seen.__setitem__)
    assert seen == counts
    events = sum(counts[t] for t in ("user_behavior_events", "business_metrics_events", "session_replay_events"))
    assert 15_000 < events < 40_000


def test_clocks_are_skewed_unless_asked_not_to(make_application_db):
    query = """
        select count(*) filter (where event_timestamp < '1971-01-01'),
               count(*) filter (where event_timestamp > %(now)s + interval '2 years'),
               count(*) filter (where event_timestamp < %(now)s - interval '31 months'
                                   or event_timestamp > %(now)s + interval '1 hour')
          from user_behavior_events
    """
    skewed, straight = make_application_db(rows=False), make_application_db(rows=False)
    generate(skewed, "small", now=NOW, progress=silent)
    generate(straight, "small", now=NOW, progress=silent, skewed_clocks=False)
    with psycopg.connect(skewed) as conn:
        ancient, future, outside = conn.execute(query, {"now": NOW}).fetchall()[0]
        assert ancient >= 2
        assert future >= 2
        assert outside < 10
    with psycopg.connect(straight) as conn:
        assert conn.execute(query, {"now": NOW}).fetchone() == (0, 0, 0)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("user_behavior_events", "event_timestamp"),
        ("business_metrics_events", "event_timestamp"),
        ("session_replay_events", "timestamp"),
    ],
)
def test_rows_stand_on_the_edges_of_months(application_db, table, column):
    query = sql.SQL("""
        with edges as (
            select e, e - interval '1 microsecond' as before, e + interval '1 microsecond' as after
              from (values (date_trunc('month', %(now)s at time zone 'UTC') at time zone 'UTC'),
                           (date_trunc('month', %(now)s at time zone 'Asia/Tokyo') at time zone 'Asia/Tokyo')) v (e)
        )
        select count(distinct {column}) from {table}, edges where {column} in (e, before, after)
    """).format(table=sql.Identifier(table), column=sql.Identifier(column))
    with psycopg.connect(application_db) as conn:
        assert conn.execute(query, {"now": datetime.now(UTC)}).fetchone() == (6,)


def test_the_awkward_rows_are_there(application_db):
    questions = {
        "events without account": "select exists (select from user_behavior_events where account_id is null)",
        "a session of two accounts": "select exists (select from user_behavior_events where account_id is not null "
        "group by session_id having count(distinct account_id) > 1)",
        "a session that began anonymously": "select exists (select from user_behavior_events group by session_id "
        "having count(account_id) between 1 and count(*) - 1)",
        "an empty page": "select exists (select from user_behavior_events where page_url = '')",
        "a Japanese page": "select exists (select from user_behavior_events where page_url like '%体験%')",
        "a tab and a line break": r"select exists (select from user_behavior_events where page_url ~ '\t') and "
        r"exists (select from user_behavior_events where page_url ~ '\n')",
        "empty, null and JSON null": "select count(distinct coalesce(engagement::text, 'NULL')) >= 3 from "
        "user_behavior_events where engagement is null or engagement in ('{}', 'null', '[]')",
        "replays and page views share sessions": "select count(*) > 20 from (select session_id from "
        "session_replay_events intersect select session_id from user_behavior_events) s",
        "searches and page views share sessions": "select count(*) > 20 from (select session_id from search_queries "
        "intersect select session_id from user_behavior_events) s",
        "an empty message": "select exists (select from chat_messages where content = '')",
        "rows past every retention": "select exists (select from user_behavior_events where event_timestamp < "
        "now() - interval '25 months') and exists (select from session_replay_events "
        "where timestamp < now() - interval '5 months')",
        "a booking without account under an account's address": "select exists (select from form_submissions f "
        "join auth.users u on lower(trim(f.email)) = u.email where f.account_id is null)",
        "a vendor with one admin only": "select exists (select from vendor_members group by vendor_id "
        "having count(*) filter (where role = 'admin') = 1)",
        "a draft saved by another account": "select exists (select from generated_activity_saves s "
        "join generated_activities g on g.id = s.generated_activity_id "
        "join chat_sessions c on c.id = g.chat_session_id where c.account_id <> s.account_id)",
        "consent in preferences": "select exists (select from account_profiles "
        "where preferences #> '{consent,preferences,analytics}' is not null)",
        "an address that was never confirmed, and one that is pending": "select exists (select from auth.users "
        "where email_confirmed_at is null) and exists (select from auth.users where email_change <> email)",
        "both forms of session names": "select bool_or(session_id ~ '^[0-9]{13}-[0-9a-z]{9}$') "
        "and bool_or(session_id ~ '^sess_[0-9]{13}_[0-9a-z]{9}$') from user_behavior_events",
        "three arrays of tastes, some empty, some missing": "select bool_or(dietary_preferences ? 'vegan') "
        "and bool_or(language_comfort = '[]') and bool_or(photo_subjects is null) from quiz_results",
        "sequences without gaps": "select bool_and(places) from (select max(sequence) = count(*) as places "
        "from chat_messages group by session_id) s",
        "answers as long as answers are": "select percentile_cont(0.5) within group (order by length(content)) > 400 "
        "from chat_messages where role = 'assistant'",
        "figures in the metadata of chats": "select bool_or(metadata -> 'metrics' -> 'totalTokens' > '100') "
        "and bool_or(metadata ? 'errors') and bool_or(not metadata ? 'metrics') from chat_sessions",
        "a summary that names the person": "select exists (select from chat_session_summaries s "
        "join chat_sessions c on c.id = s.session_id join account_linkages l using (account_id) "
        "join auth.users u on u.id = l.supabase_user_id where position(u.email in s.summary) > 0)",
        "tastes as array and as one slug": "select count(distinct jsonb_typeof(answer_value)) = 2 from quiz_answers "
        "where question_ref = 'dietary_preferences'",
    }
    with psycopg.connect(application_db) as conn:
        missing = [name for name, query in questions.items() if conn.execute(query).fetchone() != (True,)]
    assert not missing


def test_a_fresh_database_counts_as_healthy(application_db):
    with psycopg.connect(application_db) as conn:
        assert conn.execute("select * from data_quality_metrics where status <> 'healthy'").fetchall() == []


def test_indexes_and_foreign_keys_are_back(make_application_db):
    query = """
        select pg_get_indexdef(indexrelid) from pg_index where indrelid = 'user_behavior_events'::regclass
        union all
        select conname || pg_get_constraintdef(oid) from pg_constraint
         where conrelid = 'user_behavior_events'::regclass and convalidated order by 1
    """
    with psycopg.connect(make_application_db(rows=False)) as empty, psycopg.connect(make_application_db()) as full:
        assert empty.execute(query).fetchall() == full.execute(query).fetchall()


def test_refuses_unknown_scales_and_filled_databases(application_db):
    with pytest.raises(SandboxError, match="small, medium, large"):
        generate(application_db, "huge", now=NOW, progress=silent)
    with pytest.raises(SandboxError, match="has rows already"):
        generate(application_db, "small", now=NOW, progress=silent)


def test_no_open_deletion_request_is_near_its_deadline(application_db):
    query = """
        select count(*) > 1, max(now() - requested_at) < interval '21 days'
          from data_deletion_requests where status in ('pending', 'processing')
    """
    with psycopg.connect(application_db) as conn:
        assert conn.execute(query).fetchone() == (True, True)
