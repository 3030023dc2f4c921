"""What becomes of an outcome in the database: one conversation per job, in the ledger's own transaction."""

import threading

import psycopg
import pytest

from lifecycle.database import connect, rows, value
from lifecycle.ledger.outcomes import CheckOutcome
from lifecycle.ledger.problems import open_causes, record
from tests.conftest import AsRole, MakeApplicationDb
from tests.outbox import JOB, ended, fail, heal, kinds, outbox, problems
from tests.partitioned import BEHAVIOR, MakePartitionedDb, insert_events, rotate_all

pytestmark = pytest.mark.one_server

pytest_plugins = ("tests.partitioned_fixtures",)

# The migration's first fill of the statistics stands there, too.
LEDGER = """
select entity_id, event_type, payload from audit_events where entity_id <> 'refresh_derived_statistics'
 order by created_at, event_type
"""


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> psycopg.Connection:
    return connect(make_application_db(rows=False, migrated=True))


def test_a_hundred_failures_are_one_message_with_a_count(conn: psycopg.Connection) -> None:
    for number in range(100):
        fail(conn, "a_view", error=f"failure {number}\nDETAIL: Key (email)=(alice@example.com)")
    assert kinds(conn) == [("failure", JOB)]
    assert problems(conn) == {(JOB, "a_view"): ("failure 99", 100)}
    content = outbox(conn)["content"]
    assert (content["failures"], content["problems"][0]["times"]) == (100, 100)
    assert "alice" not in str(content)


def test_more_causes_join_the_conversation_and_the_last_one_ends_it(conn: psycopg.Connection) -> None:
    fail(conn, "a_view", "b_view")
    heal(conn, "a_view", "never_failed")
    assert [problem["cause"] for problem in outbox(conn)["content"]["problems"]] == ["b_view"]
    assert kinds(conn) == [("failure", JOB)]
    heal(conn, "b_view", "b_view")
    assert kinds(conn) == [("failure", JOB), ("recovery", JOB)]
    failure, recovery = outbox(conn), outbox(conn, 1)
    assert failure["closed_at"] is not None
    assert recovery["content"]["failures"] == 2
    assert recovery["content"]["failure_id"] == failure["id"]
    fail(conn, "a_view")
    assert kinds(conn) == [("failure", JOB), ("recovery", JOB), ("failure", JOB)]
    assert problems(conn)[JOB, "a_view"][1] == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ('invalid input syntax for type uuid: "alice"', 'invalid input syntax for type uuid: "..."'),
        ('date/time field value out of range: "1980-13-01"', 'date/time field value out of range: "..."'),
        ('the database refused: malformed array literal: "{alice" (22P02)', "malformed array literal"),
        ("mail to <alice@example.com> bounced", "mail to <...> bounced"),
        ("\n first \nDETAIL: Key (name)=(alice)", "first"),
        ('relation "a_view" does not exist', 'relation "a_view" does not exist'),
    ],
)
def test_values_of_rows_stay_out_of_ledger_and_message(conn: psycopg.Connection, error: str, told: str) -> None:
    record(conn, JOB, "a_view", error)
    ledger, message = str(rows(conn, LEDGER)), outbox(conn)["content"]["problems"][0]["error"]
    assert told in message
    assert "alice" not in ledger + message
    assert "1980" not in message


def test_success_writes_no_message(conn: psycopg.Connection) -> None:
    assert ended(conn, "run-1")
    record(conn, JOB, "a_view", None)
    assert kinds(conn) == []
    assert [row[1] for row in rows(conn, LEDGER)] == ["job_success", "job_success"]


def test_a_run_fails_once_and_recovers(conn: psycopg.Connection) -> None:
    assert ended(conn, "run-1", "no space\nDETAIL: (alice)")
    assert not ended(conn, "run-1", "no space")
    assert problems(conn) == {(JOB, ""): ("no space", 1)}
    assert outbox(conn)["content"]["problems"][0]["run_id"] == "run-1"
    assert ended(conn, "run-2")
    assert kinds(conn) == [("failure", JOB), ("recovery", JOB)]


def test_a_canceled_run_is_in_the_ledger_only(conn: psycopg.Connection) -> None:
    ended(conn, "run-1", "it broke")
    ended(conn, "run-2", "canceled")
    assert [row[1] for row in rows(conn, LEDGER)] == ["job_failure", "job_failure"]
    assert problems(conn) == {(JOB, ""): ("it broke", 1)}


def test_what_the_database_reported_is_linked_to_the_run_and_counts_once(conn: psycopg.Connection) -> None:
    record(conn, JOB, "a_view", "cannot refresh")
    ended(conn, "run-1", "rotation failed: cannot refresh", duration_ms=60_000)
    assert problems(conn) == {(JOB, "a_view"): ("cannot refresh", 1)}
    assert outbox(conn)["content"]["problems"][0]["run_id"] == "run-1"
    assert outbox(conn)["content"]["failures"] == 1
    # An older report says nothing about a run that fails now.
    conn.execute("update lifecycle.open_problems set last_seen = now() - interval '1 hour'")
    ended(conn, "run-2", "something else", duration_ms=60_000)
    assert set(problems(conn)) == {(JOB, "a_view"), (JOB, "")}


def test_a_part_of_a_job_closes_no_more_than_itself(conn: psycopg.Connection) -> None:
    by_hand = {"job": "__ASSET_JOB", "about": JOB}
    ended(conn, "run-1", "it broke")
    ended(conn, "run-2", "it broke", part="an_asset", **by_hand)
    assert set(problems(conn)) == {(JOB, ""), (JOB, "run of an_asset")}
    ended(conn, "run-3", part="an_asset", **by_hand)
    assert set(problems(conn)) == {(JOB, "")}
    ended(conn, "run-4", "it broke", part="backfill abc", proves_part=False)
    ended(conn, "run-5", part="backfill abc", proves_part=False)
    assert set(problems(conn)) == {(JOB, ""), (JOB, "run of backfill abc")}
    ended(conn, "run-6")
    assert problems(conn) == {}
    assert kinds(conn) == [("failure", JOB), ("recovery", JOB)]


def test_checks_are_facts_of_their_own(conn: psycopg.Connection) -> None:
    broken = CheckOutcome(JOB, "an_asset", "is_fresh", "three hours old")
    ended(conn, "run-1", checks=(broken, CheckOutcome(JOB, "an_asset", "has_rows")))
    cause = "check an_asset is_fresh"
    assert problems(conn) == {(JOB, cause): ("three hours old", 1)}
    assert outbox(conn)["content"]["problems"][0]["run_id"] == "run-1"
    assert [(row[1], row[2].get("object")) for row in rows(conn, LEDGER)] == [
        ("job_failure", cause),
        ("job_success", None),
    ]
    ended(conn, "run-2", checks=(CheckOutcome(JOB, "an_asset", "is_fresh"),))
    assert kinds(conn) == [("failure", JOB), ("recovery", JOB)]


def test_ledger_and_message_are_one_transaction(conn: psycopg.Connection) -> None:
    with conn.transaction(force_rollback=True):
        record(conn, JOB, "a_view", "cannot refresh")
        ended(conn, "run-1", "it broke")
        assert kinds(conn)
    assert kinds(conn) == []
    assert problems(conn) == {}
    assert rows(conn, LEDGER) == []
    assert ended(conn, "run-1", "it broke")


def test_a_ledger_that_refuses_sends_no_message(conn: psycopg.Connection) -> None:
    conn.execute("alter table audit_events add constraint full_disk check (event_type <> 'job_failure') not valid")
    with pytest.raises(psycopg.errors.CheckViolation):
        record(conn, JOB, "a_view", "cannot refresh")
    assert kinds(conn) == []


def test_alerts_that_pass_by_themselves_stay_in_the_ledger(conn: psycopg.Connection) -> None:
    conn.execute("select lifecycle.record_outcome(%s, 'a_view', 'a lock', '{}', alert => false)", (JOB,))
    assert kinds(conn) == []
    assert [row[1] for row in rows(conn, LEDGER)] == ["job_failure"]


def test_failures_and_recoveries_at_once_leave_one_open_conversation(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)

    def work(cause: str) -> None:
        with connect(url) as session:
            for _ in range(20):
                fail(session, cause)
                heal(session, cause)
            fail(session, cause)

    threads = [threading.Thread(target=work, args=(f"view_{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with connect(url) as conn:
        assert (
            value(conn, "select count(*) from lifecycle.notifications where kind = 'failure' and closed_at is null")
            == 1
        )
        told = value(conn, "select content from lifecycle.notifications where kind = 'failure' and closed_at is null")
        assert {problem["cause"] for problem in told["problems"]} == {cause for _, cause in problems(conn)}
        assert len(problems(conn)) == len(threads)
        ordered = [kind for kind, _ in kinds(conn)]
        assert ordered == (["failure", "recovery"] * len(ordered))[: len(ordered)]


def test_open_causes_are_told_apart_by_their_beginning(conn: psycopg.Connection) -> None:
    fail(conn, "stale a", "stalemate", "%", "run of a")
    assert open_causes(conn, "stale ") == [(JOB, "stale a")]
    assert open_causes(conn, "", "another_job") == []


@pytest.mark.parametrize("auto_grant", [True, False])
def test_the_outbox_is_closed_to_the_api(
    make_application_db: MakeApplicationDb, as_role: AsRole, auto_grant: bool
) -> None:
    url = make_application_db(rows=False, auto_grant=auto_grant, migrated=True)
    for role in ("anon", "authenticated"):
        for statement in (
            "select * from lifecycle.notifications",
            "select lifecycle.report_outcome('a', 'b', 'c')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), as_role(url, role) as session:
                session.execute(statement.encode())
        with connect(url) as conn:
            signature = "lifecycle.report_outcome(text, text, text, text)"
            assert not value(conn, "select has_function_privilege(%s, %s, 'execute')", (role, signature))


def test_a_rotation_that_fails_by_psql_is_heard_of(conn: psycopg.Connection) -> None:
    """No table is partitioned yet: every one fails, and its neighbours with it."""
    table = "select outcome from rotate_event_partitions(now(), 'user_behavior_events')"
    assert rows(conn, table) == [("failure",)]
    assert rows(conn, table) == [("failure",)]
    ((job, kind, payload), _) = rows(conn, LEDGER)
    assert (job, kind, payload["table"]) == ("rotate_event_partitions", "job_failure", "public.user_behavior_events")
    assert kinds(conn) == [("failure", "rotate_event_partitions")]
    assert problems(conn) == {("rotate_event_partitions", "public.user_behavior_events"): (payload["error"], 2)}


def test_a_rotation_that_does_the_rest_does_not_recover_in_between(make_partitioned_db: MakePartitionedDb) -> None:
    """Somebody else's old partition is skipped each day; what rotation does besides makes the table no healthier."""
    with connect(make_partitioned_db()) as conn:
        conn.execute(
            "create table event_partitions.strange partition of user_behavior_events "
            "for values from ('2001-01-01') to ('2001-02-01')"
        )
        for number in range(3):
            insert_events(conn, BEHAVIOR, "2002-01-01", session=f"late {number}")
            outcomes = {(action.action, action.outcome) for action in rotate_all(conn, table=BEHAVIOR)}
            assert ("purge", "success") in outcomes
            assert ("skipped", "failure") in outcomes
        assert kinds(conn) == [("failure", "rotate_event_partitions")]
        assert problems(conn)["rotate_event_partitions", str(BEHAVIOR.relation)][1] == 3
        conn.execute("drop table event_partitions.strange")
        rotate_all(conn, table=BEHAVIOR)
        assert kinds(conn) == [("failure", "rotate_event_partitions"), ("recovery", "rotate_event_partitions")]


def test_a_lock_that_stayed_taken_calls_nobody(conn: psycopg.Connection) -> None:
    audit = "select lifecycle.audit_rotation('a_table', 'skipped', null, 0, 0, 'failure', %s, now())"
    conn.execute(audit, ("no lock on a_table within 50 ms (tries: 30)",))
    assert kinds(conn) == []
    conn.execute(audit, ("must be owner of table a_table",))
    assert kinds(conn) == [("failure", "rotate_event_partitions")]
    assert [row[1] for row in rows(conn, LEDGER)] == ["job_failure", "job_failure"]


@pytest.mark.parametrize(
    "message",
    [
        'invalid input syntax for type numeric: "Tanaka"',
        'invalid input syntax for type numeric: "Tanaka\nTaro"',
        'invalid input value for enum account_status: "said "Tanaka" twice"',
        'value "Tanaka" is out of range for type integer',
        '"Tanaka" is out of range for type double precision',
        'a_view: "Tanaka" is out of range for type double precision',
        'date/time field value out of range: "Tanaka"',
        'invalid value "Tanaka" for "YYYY"',
        'invalid cidr value: "Tanaka/8"',
        'time zone "Tanaka" not recognized',
        'malformed array literal: "{Tanaka"',
        "no row for Tanaka@example.com",
        'duplicate key value violates unique constraint "a_key"\nDETAIL: Key (name)=(Tanaka) already exists.',
    ],
)
def test_no_value_of_a_row_gets_into_a_message(conn: psycopg.Connection, message: str) -> None:
    told = value(conn, "select lifecycle.first_line(%s)", (message,))
    assert "Tanaka" not in told
    assert len(told) > 10


def test_names_of_objects_stay_in_a_message(conn: psycopg.Connection) -> None:
    for message in (
        'relation "public.top_search_keywords" does not exist',
        'null value in column "slug" of relation "activity_tags" violates not-null constraint',
        'index row size 2712 exceeds btree version 4 maximum 2704 for index "account_session_days_pkey"',
    ):
        assert value(conn, "select lifecycle.first_line(%s)", (message,)) == message
