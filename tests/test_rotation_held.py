"""A month past retention that something holds: it stays alone, and error, plan and check name what holds it."""

from datetime import UTC, datetime

import pytest

from assets.partition_checks import nothing_past_retention
from lifecycle.database import Connection, value
from lifecycle.partitions.months import add_months, month_start, partition_name
from lifecycle.partitions.plan import plan_rotation
from lifecycle.partitions.status import partition_status
from tests.partitioned import BEHAVIOR, audit_rows, done, partition_tables, rotate_all, run_on, server_clock, set_policy

pytest_plugins = ("tests.partitioned_fixtures",)
HOLDERS = {
    "view old_report": ("create view old_report as select * from {0}", "drop view old_report"),
    "materialized view old_report": (
        "create materialized view old_report as select page_url from {0}",
        "drop materialized view old_report",
    ),
    "constraint of_old on table notes": (
        "create table notes (id uuid, at timestamptz, constraint of_old foreign key (id, at) references {0} (id,"
        " event_timestamp))",
        "drop table notes",
    ),
    "function of_old()": (
        "create function of_old() returns bigint return (select count(*) from {0})",
        "drop function of_old()",
    ),
    "column event of table copies": ("create table copies (event {0})", "drop table copies"),
}


@pytest.mark.parametrize("holder", list(HOLDERS))
def test_one_that_is_held_keeps_no_other(partitioned: Connection, holder: str) -> None:
    now = server_clock(partitioned)
    make, drop = HOLDERS[holder]
    set_policy(partitioned, BEHAVIOR, retention="2 months")
    past = [partition_name(BEHAVIOR.name, add_months(month_start(now), -back)) for back in (5, 4, 3)]
    run_on(partitioned, make, past[0])
    planned = plan_rotation(partitioned, BEHAVIOR, datetime.now(UTC))
    assert (list(planned.drop), planned.held) == (past, (f"{holder} holds {past[0]}",))

    actions = rotate_all(partitioned, table=BEHAVIOR)

    assert done(actions, "drop") == past[1:]
    (failure,) = [action for action in actions if action.outcome == "failure"]
    assert (failure.action, failure.partition) == ("skipped", past[0])
    # There PostgreSQL writes schemas.
    assert holder in (failure.error or "").replace("public.", "")
    assert f"event_partitions.{past[0]} is past retention and cannot be dropped" in (failure.error or "")
    assert past[0] in partition_tables(partitioned)
    assert [payload["error"] for kind, payload in audit_rows(partitioned) if kind == "job_failure"] != []
    assert holder in value(partitioned, "select error from lifecycle.open_problems").replace("public.", "")
    finding = nothing_past_retention(partition_status(partitioned, BEHAVIOR, datetime.now(UTC)))
    assert not finding.passed
    assert f"{holder} holds {past[0]}: drop that" in finding.description

    partitioned.execute(drop.encode())
    assert done(rotate_all(partitioned, table=BEHAVIOR), "drop") == [past[0]]
    assert value(partitioned, "select count(*) from lifecycle.open_problems") == 0
