"""The asset of segments: one run refreshes, describes without personal data, and checks what it left."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from assets.segments import KEY, LONGEST_WAIT, no_segments_without_consent, segments_not_behind, tags_chart
from lifecycle.database import Connection, connect, rows, value
from lifecycle.segments.refresh import SegmentsStatus, refresh_segments, segments_status
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from tests.conftest import MakeApplicationDb
from tests.segmented import disagreements, everybody, make_keen_person, waiting

pytestmark = pytest.mark.one_server

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run(url: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = build_definitions(database=ApplicationDatabase(url=url)).resolve_job_def("refresh_account_segments")
    return job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)


def age_the_log(conn: Connection, age: timedelta) -> None:
    conn.execute("update lifecycle.changed_segment_accounts set logged_at = now() - %s", (age,))


def test_a_run_refreshes_describes_and_checks(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with dg.DagsterInstance.ephemeral() as instance, connect(url) as conn:
        result = run(url, instance)
        assert result.success
        assert disagreements(conn) == []
        evaluations = result.get_asset_check_evaluations()
        assert {(found.check_name, found.passed) for found in evaluations} == {
            ("segments_not_behind", True),
            ("no_segments_without_consent", True),
            ("segment_sources_present", True),
        }
        event = instance.get_latest_materialization_event(KEY)
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        held = value(conn, "select count(*) from account_profiles where preferences ? 'segments'")
        assert metadata["dagster/row_count"].value == metadata["written"].value == held > 0
        assert "data:image/png;base64," in str(metadata["picture"].value)
        told = str(result.all_events) + str(metadata)
        for (account,) in rows(conn, "select account_id::text from account_profiles"):
            assert account not in told


def test_an_error_of_the_function_fails_the_run_once(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with dg.DagsterInstance.ephemeral() as instance, connect(url) as conn:
        conn.execute("delete from lifecycle.segment_policy")
        result = run(url, instance)
        assert not result.success
        kinds = [event.event_type for event in result.all_events]
        assert dg.DagsterEventType.STEP_UP_FOR_RETRY not in kinds
        failure = result.failure_data_for_node("account_segments")
        assert failure is not None
        assert "segment_policy is empty" in str(failure.user_failure_data)


@pytest.mark.parametrize(("age", "passed"), [(LONGEST_WAIT * 0.9, True), (LONGEST_WAIT * 1.1, False)])
def test_changes_that_wait_too_long_are_found(
    make_application_db: MakeApplicationDb, age: timedelta, passed: bool
) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        refresh_segments(conn)
        make_keen_person(conn)
        age_the_log(conn, age)
        status = segments_status(conn)
        assert status.waiting == 1
        assert segments_not_behind(status, datetime.now(UTC)).passed is passed


def test_a_note_for_everybody_keeps_its_age_when_it_is_taken_apart(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        age_the_log(conn, timedelta(hours=3))
        assert segments_status(conn).waiting == value(conn, "select count(*) from account_profiles")
        conn.execute("select * from refresh_account_segments(10)")
        assert None not in waiting(conn)
        assert not segments_not_behind(segments_status(conn), datetime.now(UTC)).passed


def test_segments_without_consent_that_no_trigger_noticed_are_found(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        refresh_segments(conn)
        person = make_keen_person(conn)
        refresh_segments(conn)
        withdraw = "update account_profiles set preferences = preferences - 'consent' where account_id = %s"
        conn.execute(withdraw.encode(), (person.account,))
        # It waits for the next refresh, which is no fault.
        assert no_segments_without_consent(segments_status(conn), datetime.now(UTC)).passed
        conn.execute("delete from lifecycle.changed_segment_accounts")
        assert segments_status(conn).without_consent == 1
        assert not no_segments_without_consent(segments_status(conn), datetime.now(UTC)).passed
        everybody(conn)
        assert refresh_segments(conn).cleared == 1
        assert no_segments_without_consent(segments_status(conn), datetime.now(UTC)).passed


def test_the_chart_is_drawn_for_none_and_for_many() -> None:
    many = tuple((f"tag-{number}", number) for number in range(30))
    for per_tag in ((), (("craft", 1),), many):
        assert "base64," in tags_chart(SegmentsStatus(1, 1, 0, 0, None, per_tag))
