"""Rotation refuses what it must: a failure row for one table, an error for a wrong call, nothing for API roles."""

from datetime import datetime

import psycopg
import pytest

from lifecycle.database import Connection, connect, value
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.months import add_months, month_start, partition_name
from lifecycle.partitions.rotate import rotate
from tests.conftest import AsRole, MakeApplicationDb
from tests.declared import EVENT_TABLES
from tests.partitioned import (
    BUSINESS,
    REPLAYS,
    audit_rows,
    done,
    insert_events,
    partition_tables,
    rotate_all,
    run_on,
    server_clock,
)

pytest_plugins = ("tests.partitioned_fixtures",)


@pytest.mark.parametrize("as_of", ["infinity", "-infinity", None])
def test_a_date_that_is_none_is_refused(partitioned: Connection, as_of: str | None) -> None:
    partitioned.execute("set statement_timeout = '10s'")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="as_of"):
        partitioned.execute("select * from rotate_event_partitions(%s::timestamptz)", (as_of,))


def test_a_plain_table_is_a_failure_row_and_the_others_are_rotated(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        actions = rotate_all(conn)
        assert [(a.table_name, a.action, a.outcome) for a in actions] == [
            (name, "skipped", "failure") for name in sorted(table.qualified_name for table in EVENT_TABLES)
        ]
        assert all("convert_event_tables" in (a.error or "") for a in actions)
        assert partition_tables(conn) == set()
        assert [event_type for event_type, _ in audit_rows(conn)] == ["job_failure"] * 3


def test_a_table_whose_split_is_pending_is_a_failure_row(make_application_db: MakeApplicationDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    convert_table(url, REPLAYS, split_now=False, now=now, progress=lambda _message, _fraction: None)
    with connect(url) as conn:
        (action,) = rotate(conn, REPLAYS)
        assert (action.action, action.outcome) == ("skipped", "failure")
        assert "not split into months yet" in (action.error or "")
        assert partition_tables(conn) == {"session_replay_events_legacy"}


def test_a_table_partitioned_by_somebody_else_is_left_alone(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        conn.execute("alter table session_replay_events rename to replays_before")
        conn.execute(
            "create table session_replay_events (like replays_before including defaults) partition by range (timestamp)"
        )
        conn.execute("create table everything_else partition of session_replay_events default")
        insert_events(conn, REPLAYS, "2001-01-01", session="old")
        (action,) = rotate(conn, REPLAYS)
        assert (action.action, action.outcome) == ("skipped", "failure")
        assert "not made by this project" in (action.error or "")
        assert value(conn, "select count(*) from everything_else") == 1


def test_a_stranger_under_a_partitions_name_fails_that_table_alone(partitioned: Connection) -> None:
    this = month_start(server_clock(partitioned))
    name = partition_name(BUSINESS.name, add_months(this, 4))
    run_on(partitioned, "create table {} (note text)", name)
    actions = rotate_all(partitioned, add_months(this, 1))
    (failure,) = [action for action in actions if action.outcome == "failure"]
    assert failure.table_name == BUSINESS.qualified_name
    assert f"event_partitions.{name} already exists" in (failure.error or "")
    assert len(done(actions, "create")) == len(EVENT_TABLES) - 1


def test_an_empty_leftover_of_ours_is_built_again(partitioned: Connection) -> None:
    this = month_start(server_clock(partitioned))
    name = partition_name(BUSINESS.name, add_months(this, 4))
    run_on(partitioned, "create table {} (note text)", name)
    run_on(partitioned, "comment on table {} is 'lifecycle:month of public.business_metrics_events'", name)
    assert done(rotate_all(partitioned, add_months(this, 1), BUSINESS), "create") == [name]


def test_an_unknown_table_is_an_error(partitioned: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable, match="no event table named accounts"):
        partitioned.execute("select * from rotate_event_partitions(now(), 'accounts')")


@pytest.mark.parametrize("auto_grant", [True, False])
@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_the_api_roles_may_not_rotate(
    make_application_db: MakeApplicationDb, as_role: AsRole, role: str, auto_grant: bool
) -> None:
    url = make_application_db(rows=False, auto_grant=auto_grant, migrated=True)
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"),
        as_role(url, role) as conn,
    ):
        conn.execute("select * from rotate_event_partitions()")


def test_a_role_without_privileges_gets_a_clear_error_or_a_failure_row(partitioned_db: str, as_role: AsRole) -> None:
    call = "select action, outcome, error from rotate_event_partitions('2035-01-01')"
    with connect(partitioned_db) as owner:
        owner.execute("grant execute on function rotate_event_partitions(timestamptz, text) to service_role")
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="lifecycle"),
            as_role(partitioned_db, "service_role") as conn,
        ):
            conn.execute(call)
        owner.execute("grant usage on schema lifecycle, event_partitions to service_role")
        owner.execute("grant select on all tables in schema lifecycle, event_partitions to service_role")
        owner.execute("grant execute on all functions in schema lifecycle to service_role")
        owner.execute(
            "grant insert, update, delete on lifecycle.open_problems, lifecycle.notifications to service_role"
        )
        before = partition_tables(owner)
        with as_role(partitioned_db, "service_role") as conn:
            found = conn.execute(call).fetchall()
        assert [row[:2] for row in found] == [("skipped", "failure")] * len(EVENT_TABLES)
        assert all("permission denied" in row[2] or "must be owner" in row[2] for row in found)
        assert partition_tables(owner) == before
        assert [event_type for event_type, _ in audit_rows(owner)] == ["job_failure"] * len(EVENT_TABLES)
