"""Event tables as declared: in the database as in the file, and refused where a value cannot be."""

from datetime import timedelta

import psycopg
import pytest

from lifecycle.database import connect, rows
from lifecycle.locks import LOCKS
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, EVENT_TABLES, event_table
from tests.partitioned import set_policy


def test_the_database_holds_the_declarations(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        found = rows(
            conn,
            "select schema_name, table_name, time_column, retention::text, months_ahead, lock_timeout_ms, lock_tries"
            " from lifecycle.event_table_policies order by 1, 2",
        )
        lengths = {"24 months": "2 years"}
        assert found == sorted(
            (t.schema, t.name, t.time_column, lengths.get(t.retention, t.retention), t.months_ahead, 50, 30)
            for t in EVENT_TABLES
        )


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


def test_event_tables_by_either_name() -> None:
    for table in EVENT_TABLES:
        assert event_table(table.name) is event_table(table.qualified_name) is table
    with pytest.raises(KeyError, match=r"no event table named 'accounts'; known: public\.user_behavior_events, "):
        event_table("accounts")


def test_every_value_has_its_reason() -> None:
    assert all(len(declared.why) > 20 for declared in APPLICATION.event_tables.values())
