"""The replica is the application's schema, and the emulation behaves as Supabase does towards the API roles."""

import re
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from sandbox.server import SUPERUSER, Server

EXPECTED = Path(__file__).with_suffix(".txt")

TABLES = r"""
with c as (
    select c.oid, c.relname from pg_class c
     where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
)
select relname, attnum, format('%s %s', attname,
           replace(format_type(atttypid, atttypmod), 'timestamp with time zone', 'timestamptz'))
           || case when attnotnull then ' not null' else '' end
           || coalesce(' = ' || pg_get_expr(d.adbin, d.adrelid), '')
  from c join pg_attribute a on a.attrelid = c.oid and attnum > 0 and not attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
union all
select relname, 1000, pg_get_constraintdef(k.oid) from c join pg_constraint k on k.conrelid = c.oid
 where k.contype <> 'n'
union all
select relname, 2000, regexp_replace(replace(pg_get_indexdef(i.indexrelid), ' ON public.', ' ON '),
                                     'CREATE (.*) USING btree', '\1')
  from c join pg_index i on i.indrelid = c.oid
 where not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.conrelid = i.indrelid)
 order by 1, 2, 3
"""
ENUMS = """
select format('enum %s: %s', t.typname, string_agg(e.enumlabel, ', ' order by e.enumsortorder))
  from pg_type t join pg_enum e on e.enumtypid = t.oid group by t.typname order by 1
"""
RELATIONS = """
select relname from pg_class
 where relnamespace = 'public'::regnamespace and relkind::text = any (%s) order by relname
"""

VIEW_COLUMNS = {
    "chat_performance_metrics": "hour total_messages avg_latency_ms median_latency_ms p95_latency_ms p99_latency_ms "
    "max_latency_ms",
    "data_quality_metrics": "metric_name metric_value threshold status last_checked",
    "daily_active_users": "date dau new_users returning_users",
    "weekly_monthly_active_users": "date dau wau mau dau_wau_ratio dau_mau_ratio wau_mau_ratio",
    "user_engagement_scores": "account_id total_days_active total_sessions total_messages last_activity_date "
    "days_since_last_activity engagement_level engagement_score",
    "account_function_usage": "account_id function_name usage_count first_used_at last_used_at",
    "top_search_keywords": "search_query search_count unique_users last_searched_at",
    "daily_user_behavior_summary": "event_date account_id session_count event_count unique_pages_visited "
    "avg_time_on_page",
}
OTHER_VIEWS = {
    "user_retention",
    "weekly_cohort_analysis",
    "feature_usage_summary",
    "chat_usage_by_account",
    "hourly_usage_patterns",
    "session_quality_scores",
    "user_conversation_styles",
    "session_gap_analysis",
    "search_analytics",
    "daily_search_stats",
    "legacy_activity_likes",
}
WITHOUT_RLS = {
    "user_behavior_events",
    "business_metrics_events",
    "session_replay_events",
    "search_queries",
    "consent_history",
    "data_deletion_requests",
}


def test_tables_are_the_applications(empty_application_db):
    with psycopg.connect(empty_application_db) as conn:
        lines = [row[0] for row in conn.execute(ENUMS)]
        table = None
        for relname, _place, text in conn.execute(TABLES):
            if relname != table:
                lines.append(f"table {relname}")
                table = relname
            lines.append(f"  {text}")
    expected = [text for text in EXPECTED.read_text().splitlines() if text and not text.startswith("#")]
    # Indexes are sorted in both; where kinds of index mix, the order of their definitions differs.
    assert _blocks(lines) == _blocks(expected)


def _blocks(lines: list[str]) -> dict[str, list[str]]:
    """Columns in order, then constraints and indexes sorted, per table or enum."""
    blocks: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith("  "):
            blocks[line] = block = []
        else:
            block.append(line)
    upper = re.compile(r"  (UNIQUE|PRIMARY|FOREIGN|CHECK|INDEX)")
    return {
        head: [c for c in block if not upper.match(c)] + sorted(c for c in block if upper.match(c))
        for head, block in blocks.items()
    }


def test_constraints_have_default_names(empty_application_db):
    query = """
        select conrelid::regclass::text, conname, contype::text,
               (select string_agg(attname, '_' order by place) from unnest(conkey) with ordinality k (n, place)
                  join pg_attribute on attrelid = conrelid and attnum = n)
          from pg_constraint where connamespace = 'public'::regnamespace and contype <> 'n'
    """
    with psycopg.connect(empty_application_db) as conn:
        for table, name, kind, columns in conn.execute(query).fetchall():
            suffix = {"p": "pkey", "u": f"{columns}_key", "f": f"{columns}_fkey", "c": f"{columns}_check"}[kind]
            assert name == f"{table}_{suffix}"


def test_every_view_is_there_and_answers(application_db):
    with psycopg.connect(application_db) as conn:
        views = {row[0] for row in conn.execute(RELATIONS, (["v", "m"],))}
        assert views == VIEW_COLUMNS.keys() | OTHER_VIEWS
        for view in sorted(views):
            cursor = conn.execute(sql.SQL("select * from {}").format(sql.Identifier(view)))
            assert cursor.fetchall(), f"{view} is empty"
            if view in VIEW_COLUMNS:
                assert [column.name for column in cursor.description or ()] == VIEW_COLUMNS[view].split()


def test_materialized_views_have_the_unique_indexes_that_refresh_needs(empty_application_db):
    with psycopg.connect(empty_application_db) as conn:
        for view in ("account_function_usage", "top_search_keywords", "daily_user_behavior_summary"):
            conn.execute(f"refresh materialized view concurrently {view}")


def test_row_security_stands_where_the_application_has_it(empty_application_db):
    with psycopg.connect(empty_application_db) as conn:
        secured: dict[str, bool] = dict(
            conn.execute(
                "select relname, relrowsecurity from pg_class "
                "where relnamespace = 'public'::regnamespace and relkind = 'r'"
            ).fetchall()
        )
    assert not WITHOUT_RLS & {table for table, on in secured.items() if on}
    assert all(secured[table] for table in ("accounts", "chat_messages", "quiz_answers", "vouchers", "audit_events"))


def test_the_owner_is_no_superuser_and_owns_the_publication(empty_application_db):
    with psycopg.connect(empty_application_db) as conn:
        assert conn.execute("select rolsuper, rolbypassrls from pg_roles where rolname = current_user").fetchone() == (
            False,
            True,
        )
        assert conn.execute("select distinct tableowner from pg_tables where schemaname = 'public'").fetchall() == [
            ("postgres",)
        ]
        published = conn.execute(
            "select pubowner::regrole::text, tablename from pg_publication join pg_publication_tables using (pubname)"
        )
        assert published.fetchall() == [("postgres", "chat_messages")]


@pytest.mark.parametrize("auto_grant", [True, False])
def test_new_tables_are_open_to_the_api_only_with_auto_grant(make_application_db, auto_grant):
    with psycopg.connect(make_application_db(rows=False, auto_grant=auto_grant)) as conn:
        conn.execute("create table later (id integer)")
        new, old = conn.execute(
            "select has_table_privilege('anon', 'later', 'select'), "
            "has_table_privilege('anon', 'user_behavior_events', 'insert')"
        ).fetchall()[0]
    assert (new, old) == (auto_grant, True)


@pytest.mark.parametrize("auto_grant", [True, False])
@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_the_api_can_record_events(make_application_db, as_role, auto_grant, role):
    url = make_application_db(rows=False, auto_grant=auto_grant)
    with as_role(url, role) as conn:
        assert conn.execute("select current_user, session_user, auth.role()").fetchone() == (
            role,
            "authenticator",
            role,
        )
        conn.execute("insert into user_behavior_events (session_id, page_url) values ('s', '/')")
    with psycopg.connect(url) as conn:
        assert conn.execute("select count(*) from user_behavior_events").fetchone() == (1,)


def test_policies_show_own_rows_only(application_db, as_role):
    with psycopg.connect(application_db) as conn:
        account, user = conn.execute(
            "select account_id, supabase_user_id from account_linkages "
            "where account_id in (select account_id from chat_sessions) and supabase_user_id is not null limit 1"
        ).fetchall()[0]
    with as_role(application_db, "authenticated", {"sub": str(user)}) as conn:
        assert conn.execute("select auth_account_id()").fetchone() == (account,)
        assert conn.execute("select distinct account_id from chat_sessions").fetchall() == [(account,)]
        assert conn.execute("select count(*) from vendors").fetchone() == (0,)
    with as_role(application_db, "service_role") as conn:
        assert conn.execute("select count(*) > 1 from vendors").fetchone() == (True,)


def test_is_service_role_raises_on_an_empty_setting(empty_application_db):
    with psycopg.connect(empty_application_db) as conn:
        assert conn.execute("select is_service_role()").fetchone() == (False,)
        conn.execute("select set_config('request.jwt.claims', '', true)")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            conn.execute("select is_service_role()")


def test_maintenance_deletes_and_swallows_errors(application_db):
    with psycopg.connect(application_db) as conn:
        (report,) = conn.execute("select run_daily_maintenance()").fetchall()[0]
        assert report.startswith("maintenance done")
        expired = conn.execute(
            "select exists (select from session_replay_events where timestamp < now() - interval '90 days')"
        )
        assert expired.fetchone() == (False,)
        conn.execute("alter table session_replay_events rename to gone")
        (report,) = conn.execute("select run_daily_maintenance()").fetchall()[0]
        assert report.startswith("maintenance failed")


def test_touch_updated_at(application_db):
    with psycopg.connect(application_db) as conn:
        conn.execute("update account_profiles set locale = locale")
        assert conn.execute("select bool_and(updated_at = now()) from account_profiles").fetchone() == (True,)


def test_roles_log_in_with_a_password_only(server: Server):
    for user in ("postgres", "authenticator", SUPERUSER):
        wrong = server.url(user=user).replace(f"{user}:", f"{user}:x", 1)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
