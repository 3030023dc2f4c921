"""What `lifecycle plan` says of views and refreshes, compared with what migration and refresh then do."""

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from rich.console import Console

from lifecycle.change_over import COLUMNS, ChangeOver, plan_change_overs
from lifecycle.database import Connection, connect, rows, value
from lifecycle.migrating.migrate import upgrade
from lifecycle.views.plan import RefreshPlan, plan_refreshes
from orchestration.cli.plan_report import collect_plan, plan_json, print_plan
from tests.conftest import MakeApplicationDb

pytestmark = pytest.mark.one_server

COLUMNS_NOW = """
select array_agg(attname::text order by attnum) from pg_attribute
 where attrelid = %s::regclass and attnum > 0 and not attisdropped
"""
VIEW = "top_search_keywords"
REFRESH = "select outcome, error from refresh_analytics_hourly(%s)"

# What is done to a view, what the plan says of it, and what the migration says that it stops at.
HAZARDS = {
    "other columns": (
        "feature_usage_summary",
        "drop view feature_usage_summary; create view feature_usage_summary as select 1 as feature",
        "it has the columns feature; expected feature_name, total_uses",
        "is not the view that this project knows",
    ),
    "a table in its place": (
        "chat_usage_by_account",
        "drop view chat_usage_by_account; create table chat_usage_by_account (account_id uuid)",
        "it is not the view that this project knows",
        "is not the view that this project knows",
    ),
    "a materialized view in its place": (
        "hourly_usage_patterns",
        "alter view hourly_usage_patterns rename to patterns;"
        "create materialized view hourly_usage_patterns as select * from patterns",
        "it is not the view that this project knows",
        "is not the view that this project knows",
    ),
    "security_invoker": (
        "daily_active_users",
        "alter view daily_active_users set (security_invoker = on)",
        "it is a security_invoker view",
        "is a security_invoker view",
    ),
    "a reader of the materialized view": (
        "account_function_usage",
        "create view favourites as select * from account_function_usage",
        "favourites read it: drop them, migrate, create them again",
        "is read by favourites",
    ),
}


def change_overs(url: str) -> dict[str, ChangeOver]:
    with connect(url) as conn:
        return {change.name: change for change in plan_change_overs(conn)}


def refreshes(conn: Connection) -> dict[str, RefreshPlan]:
    conn.execute("select pg_stat_force_next_flush()")
    return {plan.name: plan for plan in plan_refreshes(conn)}


def test_views_of_the_application_are_ready_and_then_done(empty_application_db: str) -> None:
    assert {name: change.state for name, change in change_overs(empty_application_db).items()} == dict.fromkeys(
        COLUMNS, "ready"
    )
    upgrade(empty_application_db)
    assert change_overs(empty_application_db) == {}


def test_the_columns_are_those_that_the_migration_expects(make_application_db: MakeApplicationDb) -> None:
    """It refuses views with others, so what it has changed over had exactly these."""
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        kept = {name for (name,) in rows(conn, "select name from lifecycle.original_relations")}
        assert kept == set(COLUMNS)
        for name, columns in COLUMNS.items():
            assert tuple(value(conn, COLUMNS_NOW, (f"public.{name}",))) == columns


@pytest.mark.parametrize("hazard", HAZARDS)
def test_what_would_stop_the_migration_does(make_application_db: MakeApplicationDb, hazard: str) -> None:
    name, statement, planned, refused = HAZARDS[hazard]
    url = make_application_db(rows=False)
    with connect(url) as conn:
        conn.execute(statement.encode())
    changes = change_overs(url)
    assert {change.name for change in changes.values() if change.state != "ready"} == {name}
    assert changes[name].state == "refused"
    assert len(changes[name].refusals) == 1
    assert planned in changes[name].refusals[0]
    with pytest.raises(psycopg.Error, match=refused):
        upgrade(url)
    assert changes == change_overs(url)


def test_a_missing_view_is_made_and_closed(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    with connect(url) as conn:
        conn.execute("drop view user_engagement_scores")
        assert change_overs(url)["user_engagement_scores"].state == "missing"
        upgrade(url)
        assert value(conn, "select count(*) from user_engagement_scores") == 0
        assert not value(conn, "select has_table_privilege('anon', 'user_engagement_scores', 'select')")


def test_a_missing_source_stops_all(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    with connect(url) as conn:
        conn.execute("alter table chat_messages rename to messages")
    for change in change_overs(url).values():
        assert change.state == "refused"
        assert change.refusals == ("table public.chat_messages, which statistics are made of, is missing",)
    with pytest.raises(psycopg.Error, match=r"lacks tables of the application: public\.chat_messages"):
        upgrade(url)


def test_the_view_of_another_owner(make_application_db: MakeApplicationDb, server: Any) -> None:
    url = make_application_db(rows=False)
    admin_url = server.url(url.rsplit("/", 1)[1], user="supabase_admin")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("alter view data_quality_metrics owner to supabase_admin")
    (refusal,) = change_overs(url)["data_quality_metrics"].refusals
    assert refusal.startswith("public.data_quality_metrics belongs to supabase_admin")
    with pytest.raises(psycopg.Error, match="must be owner of view data_quality_metrics"):
        upgrade(url)


def populated_again(conn: Connection) -> None:
    conn.execute("select * from refresh_analytics_hourly()")


def without_index(conn: Connection) -> None:
    for (index,) in rows(
        conn, "select indexrelid::regclass::text from pg_index where indrelid = %s::regclass", (VIEW,)
    ):
        conn.execute(f"drop index {index}".encode())


def searched(conn: Connection) -> None:
    populated_again(conn)
    conn.execute("insert into search_queries (search_query) select 'onsen' from generate_series(1, 3)")


def aged(conn: Connection) -> None:
    populated_again(conn)
    conn.execute("update lifecycle.refresh_states set refreshed_at = now() - interval '25 hours'")


@pytest.mark.parametrize(
    ("prepare", "would", "outcome"),
    [
        (lambda _conn: None, "refresh: never refreshed by this project", "success"),
        (populated_again, "skip: its sources did not change", "skipped"),
        (searched, "refresh: 3 changes of its sources", "success"),
        (aged, "refresh: older than 1 day", "success"),
        (lambda conn: conn.execute(f"refresh materialized view {VIEW} with no data"), "populate it", "populated"),
        (without_index, "refuse: it has no unique index", "failure"),
        (lambda conn: conn.execute(f"drop materialized view {VIEW}"), "refuse: it is missing", "failure"),
        (
            lambda conn: conn.execute(f"drop materialized view {VIEW}; create view {VIEW} as select 1"),
            "refuse: it is no materialized view",
            "failure",
        ),
    ],
)
def test_a_refresh_does_what_was_planned(
    make_application_db: MakeApplicationDb, prepare: Callable[[Connection], None], would: str, outcome: str
) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        prepare(conn)
        assert refreshes(conn)[VIEW].would.startswith(would)
        assert rows(conn, REFRESH, (VIEW,))[0][0] == outcome


def test_before_the_migration_only_what_can_be_known(application_db: str) -> None:
    with connect(application_db) as conn:
        without_index(conn)
        plans = refreshes(conn)
    assert {plan.kind for plan in plans.values()} == {"materialized view"}
    assert plans[VIEW].would.startswith("refuse: it has no unique index")
    assert plans["daily_user_behavior_summary"].refreshed_at is None


def test_what_waits_is_counted_and_then_taken_up(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        before = refreshes(conn)
        assert before["roll-ups of chat"].waiting == before["daily_active_users"].waiting == 0
        late = value(
            conn,
            """with late as (update chat_messages set latency_ms = 1
                              where created_at < now() - interval '3 hours' returning created_at)
               select array[count(*), count(distinct date_trunc('hour', created_at))] from late""",
        )
        assert min(late) > 0
        waiting = refreshes(conn)["roll-ups of chat"]
        assert waiting.waiting == 2 * late[0]  # where each row was, and where it is
        assert waiting.would == f"roll up from two hours before that, and {late[1]:,} late hours"

        conn.execute("delete from user_behavior_events where event_timestamp < now() - interval '10 days'")
        assert refreshes(conn)["roll-ups of activity"].waiting > 0
        conn.execute("select * from lifecycle.refresh_roll_ups()")
        rolled_up = refreshes(conn)
        assert rolled_up["roll-ups of activity"].waiting == 0
        days = value(conn, "select count(*) from lifecycle.pending_recounts where statistic = 'daily_active_users'")
        assert rolled_up["daily_active_users"].waiting == days > 0
        assert rolled_up["daily_active_users"].would == f"take up {days:,} changes that were rolled up"

        conn.execute("select * from refresh_derived_statistics()")
        after = refreshes(conn)
        assert {plan.waiting for plan in after.values() if plan.kind != "materialized view"} == {0}
        for name in ("roll-ups of chat", "daily_active_users"):
            earlier, later = before[name].refreshed_at, after[name].refreshed_at
            assert earlier is not None
            assert later is not None
            assert later > earlier


def test_the_plan_fits_on_the_screen_and_into_json(make_application_db: MakeApplicationDb) -> None:
    for migrated in (False, True):
        url = make_application_db(migrated=migrated)
        if not migrated:
            with connect(url) as conn:
                conn.execute("alter view daily_active_users set (security_invoker = on)")
        plan = collect_plan(url, datetime.now(UTC))
        screen = io.StringIO()
        print_plan(plan, Console(file=screen, width=100))
        text = " ".join(screen.getvalue().replace("│", " ").split())
        assert max(map(len, screen.getvalue().splitlines())) <= 100
        assert ("would stop: it is a security_invoker view" in text) is not migrated
        assert ("roll up from two hours before that" in text) is migrated
        assert '"would": "refresh: never refreshed by this project"' in plan_json(plan)
