"""What `lifecycle plan` says of refreshes, compared with what the refresh then does."""

from collections.abc import Callable

import pytest

from lifecycle.database import Connection, connect, rows
from lifecycle.views.plan import RefreshPlan, plan_refreshes
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

pytestmark = pytest.mark.one_server

VIEW = "top_search_keywords"
REFRESH = "select outcome, error from refresh_analytics_hourly(%s)"


def refreshes(conn: Connection) -> dict[str, RefreshPlan]:
    conn.execute("select pg_stat_force_next_flush()")
    return {plan.name: plan for plan in plan_refreshes(conn, APPLICATION.views.materialized)}


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
        (populated_again, "skip: nothing that it reads has changed", "skipped"),
        (searched, "refresh: 3 changes of what it reads", "success"),
        (aged, "refresh: older than 1 day", "success"),
        (lambda conn: conn.execute(f"refresh materialized view {VIEW} with no data"), "populate it", "populated"),
        (without_index, "refresh: never refreshed by this project; readers wait meanwhile", "rewritten"),
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
        assert refreshes(conn)[f"public.{VIEW}"].would.startswith(would)
        assert rows(conn, REFRESH, (VIEW,))[0][0] == outcome


def test_before_the_migration_only_what_can_be_known(application_db: str) -> None:
    with connect(application_db) as conn:
        without_index(conn)
        plans = refreshes(conn)
    assert plans[f"public.{VIEW}"].would.startswith("refresh: never refreshed by this project; readers wait")
    assert plans["public.daily_user_behavior_summary"].refreshed_at is None
    assert plans["public.daily_kpi_summary"].would == "nothing: the application does not have it"
