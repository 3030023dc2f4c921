"""The policy lives once: the database and the reference page say the same as lifecycle/policy.py."""

import re
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from lifecycle.access.page import access_page
from lifecycle.database import connect, rows
from lifecycle.erasures.map_page import personal_data_page
from lifecycle.policy import DATA_QUALITY, EVENT_TABLES, LATE_AFTER, LOCKS, MATERIALIZED_VIEWS, event_table
from lifecycle.policy_page import retention_page
from tests.conftest import MakeApplicationDb
from tests.partitioned import set_policy

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "retention.md"
WRITE_PAGE = "lifecycle.policy_page.retention_page() > docs/reference/retention.md"


def test_the_database_holds_the_policy(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        found = rows(
            conn,
            "select schema_name, table_name, time_column, retention = %s::interval, months_ahead, lock_timeout_ms,"
            " lock_tries from lifecycle.event_table_policies where table_name = %s",
            (EVENT_TABLES[0].retention, EVENT_TABLES[0].name),
        )
        assert found == [("public", EVENT_TABLES[0].name, EVENT_TABLES[0].time_column, True, 3, 50, 30)]
        for table in EVENT_TABLES:
            assert rows(
                conn,
                "select schema_name, time_column, retention, months_ahead, lock_timeout_ms, lock_tries,"
                " retention = %s::interval from lifecycle.event_table_policies where table_name = %s",
                (table.retention, table.name),
            )[0][-1]
        assert rows(conn, "select count(*) from lifecycle.event_table_policies") == [(len(EVENT_TABLES),)]
        thresholds = rows(conn, "select metric_name, threshold, healthy_if from lifecycle.data_quality_thresholds")
        assert set(thresholds) == {(q.metric_name, q.threshold, q.healthy_if) for q in DATA_QUALITY}
        for view in MATERIALIZED_VIEWS:
            assert rows(
                conn,
                "select sources, max_age = %s::interval from lifecycle.materialized_view_policies"
                " where schema_name = %s and view_name = %s",
                (view.max_age, view.schema, view.name),
            ) == [(list(view.sources), True)]
        assert rows(conn, "select lifecycle.overlap()") == [(LATE_AFTER,)]


@pytest.mark.parametrize(
    ("column", "nonsense"),
    [("lock_timeout_ms", 0), ("lock_timeout_ms", 60_000), ("lock_tries", 0), ("months_ahead", 0)],
)
def test_the_database_refuses_nonsense(make_application_db: MakeApplicationDb, column: str, nonsense: int) -> None:
    with (
        connect(make_application_db(rows=False, migrated=True)) as conn,
        pytest.raises(psycopg.errors.CheckViolation),
    ):
        set_policy(conn, EVENT_TABLES[0], **{column: nonsense})


def test_a_try_is_short_and_all_tries_outlast_an_ordinary_report() -> None:
    assert LOCKS.timeout == 0.05
    pause, waited = LOCKS.first_pause, 0.0
    for _ in range(LOCKS.tries - 1):
        waited += pause / 2
        pause = min(pause * 1.3, LOCKS.longest_pause)
    assert timedelta(seconds=waited) > timedelta(minutes=1)


def test_the_reference_page_is_the_policy() -> None:
    assert PAGE.read_text(encoding="utf-8") == retention_page(), f"run: {WRITE_PAGE}"
    for table in EVENT_TABLES:
        assert f"`{table.qualified_name}` | `{table.time_column}` | {table.retention} |" in retention_page()
    for quality in DATA_QUALITY:
        assert re.search(rf"`{quality.metric_name}` \| at (least|most) [\d,]+ \| {quality.reason} \|", retention_page())
    for view in MATERIALIZED_VIEWS:
        assert f"| `{view.schema}.{view.name}` | `{view.sources[0]}`" in retention_page()


def test_the_map_of_personal_data_is_the_map() -> None:
    page = PAGE.with_name("personal-data-map.md").read_text(encoding="utf-8")
    assert page == personal_data_page(), "run: lifecycle.erasures.map_page.personal_data_page() > the page"


def test_the_access_page_is_the_declaration() -> None:
    page = PAGE.with_name("access.md").read_text(encoding="utf-8")
    assert page == access_page(), "run: lifecycle.access_policies.page.access_page() > the page"


def test_event_tables_by_either_name() -> None:
    for table in EVENT_TABLES:
        assert event_table(table.name) is event_table(table.qualified_name) is table
    with pytest.raises(KeyError, match=r"no event table named 'accounts'; known: user_behavior_events, "):
        event_table("accounts")


def test_every_value_has_its_reason() -> None:
    assert all(len(value.reason) > 20 for value in (*EVENT_TABLES, *DATA_QUALITY, *MATERIALIZED_VIEWS))
