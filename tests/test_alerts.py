"""From a run, a check, an old asset to Slack, through the sensors that do it in production."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest

from lifecycle.database import rows, value
from orchestration.definitions import build_definitions, defs
from resources.dagster_private import FreshnessState, FreshnessStateChange
from resources.postgres import ApplicationDatabase
from resources.slack import Slack
from sandbox.slack_server import SlackServer
from sensors.freshness import freshness, grace, watched_assets
from sensors.notifications import notifications
from sensors.ownership import BY_HAND, coverage, jobs_of_assets
from sensors.run_outcomes import run_outcomes
from tests.conftest import MakeApplicationDb
from tests.declared import EVENT_TABLES
from tests.docs_pages import convert
from tests.outbox import fail, kinds, problems, slack_for

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.slack_fixtures",)

ROTATE = "rotate_event_partitions"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
KEY = dg.AssetKey(["event_partitions", "session_replay_events"])


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def run(
    job: str, url: str, instance: dg.DagsterInstance, assets: list[dg.AssetKey] | None = None, **tags: str
) -> dg.ExecuteInProcessResult:
    definition = build_definitions(database=ApplicationDatabase(url=url)).resolve_job_def(job)
    return definition.execute_in_process(
        instance=instance, raise_on_error=False, run_config=QUIET, asset_selection=assets, tags=tags
    )


def look(
    sensor: dg.SensorDefinition, url: str, instance: dg.DagsterInstance, cursor: str | None = None, **resources: Any
) -> Any:
    with dg.build_sensor_context(instance=instance, definitions=defs, cursor=cursor) as context:
        return sensor(context, database=ApplicationDatabase(url=url), **resources)


def materialized(key: dg.AssetKey, instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(key))


def freshness_is(state: FreshnessState, instance: dg.DagsterInstance, *keys: dg.AssetKey) -> None:
    """What Dagster's freshness daemon stores."""
    for key in keys:
        change = FreshnessStateChange(
            key=key,
            new_state=state,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=datetime.now(UTC).timestamp(),
        )
        instance.report_runless_asset_event(change)


def known_for(length: timedelta) -> str:
    since = (datetime.now(UTC) - length).isoformat()
    return json.dumps({key.to_user_string(): since for key in watched_assets(defs.get_repository_def())})


def test_every_sensor_runs_by_default() -> None:
    sensors = {s.name: s for s in defs.sensors or () if isinstance(s, dg.SensorDefinition)}
    assert {"run_outcomes", "freshness", "notifications"} <= set(sensors)
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in sensors.values())


def test_a_failed_run_is_one_message_and_its_success_another(
    url: str, conn: psycopg.Connection, instance: dg.DagsterInstance, fake: SlackServer
) -> None:
    for _ in range(2):
        assert not run(ROTATE, url, instance).success
        look(run_outcomes, url, instance)
        look(notifications, url, instance, slack=slack_for(fake))
    assert kinds(conn) == [("failure", ROTATE)]
    # Rotation told of each table before Dagster told of the run: three causes, each linked to the run.
    assert set(problems(conn)) == {(ROTATE, str(table.relation)) for table in EVENT_TABLES}
    (message,) = fake.channel.messages
    assert str(message.blocks).count("/runs/") == len(EVENT_TABLES)
    for table in EVENT_TABLES:
        convert(url, table, split=True)
    assert run(ROTATE, url, instance).success
    look(run_outcomes, url, instance)
    look(run_outcomes, url, instance)
    look(notifications, url, instance, slack=slack_for(fake))
    assert kinds(conn) == [("failure", ROTATE), ("recovery", ROTATE)]
    assert len(fake.channel.messages) == 2
    assert problems(conn) == {}


def test_a_run_that_fails_outside_of_the_database_is_its_own_cause(
    url: str, conn: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    conn.execute("alter function run_daily_maintenance() rename to hidden")
    result = run("run_daily_maintenance", url, instance)
    look(run_outcomes, url, instance)
    assert set(problems(conn)) == {("run_daily_maintenance", "")}
    linked = value(conn, "select content -> 'problems' -> 0 ->> 'run_id' from lifecycle.notifications")
    assert linked == result.run_id


def test_a_failed_check_of_a_run_that_succeeded_is_one_message(
    url: str, conn: psycopg.Connection, instance: dg.DagsterInstance, fake: SlackServer
) -> None:
    for table in EVENT_TABLES:
        convert(url, table, split=True)
    conn.execute("grant select on event_partitions.session_replay_events_default to anon")
    for _ in range(2):
        assert run(ROTATE, url, instance).success
        look(run_outcomes, url, instance)
    cause = "check event_partitions/session_replay_events partitions_not_exposed"
    assert {key: times for key, (_, times) in problems(conn).items()} == {(ROTATE, cause): 2}
    ledger = "select count(*) from audit_events where event_type = 'job_failure' and payload ->> 'object' = %s"
    assert value(conn, ledger, (cause,)) == 2
    conn.execute("revoke select on event_partitions.session_replay_events_default from anon")
    # The asset alone, by hand: its checks count all the same.
    assert run(BY_HAND, url, instance, [KEY]).success
    look(run_outcomes, url, instance)
    look(notifications, url, instance, slack=slack_for(fake))
    assert kinds(conn) == [("failure", ROTATE), ("recovery", ROTATE)]
    assert len(fake.channel.messages) == 2


def test_a_part_by_hand_does_not_close_the_jobs_own_failure(
    url: str, conn: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    for table in EVENT_TABLES:
        convert(url, table, split=True)
    fail(conn, "", job=ROTATE)
    assert run(BY_HAND, url, instance, [KEY]).success
    look(run_outcomes, url, instance)
    assert set(problems(conn)) == {(ROTATE, "")}
    assert run(ROTATE, url, instance).success
    look(run_outcomes, url, instance)
    assert problems(conn) == {}


def test_what_a_run_covers(url: str, instance: dg.DagsterInstance) -> None:
    makers = jobs_of_assets(defs.get_repository_def())
    ours = [key for key, job in makers.items() if job == ROTATE]

    def covered(result: dg.ExecuteInProcessResult) -> tuple[str, str | None, bool]:
        stored = instance.get_run_by_id(result.run_id)
        assert stored is not None
        found = coverage(instance, stored, makers)
        return found.about, found.part, found.proves_part

    name = KEY.to_user_string()
    assert covered(run(ROTATE, url, instance)) == (ROTATE, None, True)
    assert covered(run(ROTATE, url, instance, ours)) == (ROTATE, None, True)
    assert covered(run(ROTATE, url, instance, [KEY])) == (ROTATE, name, True)
    assert covered(run(BY_HAND, url, instance, [KEY])) == (ROTATE, name, True)
    backfill = {"dagster/backfill": "abc"}
    assert covered(run(ROTATE, url, instance, None, **backfill)) == (ROTATE, "backfill abc", False)
    whole = run(ROTATE, url, instance)
    selected = {"dagster/root_run_id": whole.run_id}
    assert covered(run(ROTATE, url, instance, [KEY], **selected)) == (ROTATE, name, True)
    again = {"dagster/is_resume_retry": "true", "dagster/root_run_id": whole.run_id}
    assert covered(run(ROTATE, url, instance, [KEY], **again)) == (ROTATE, None, True)


def test_a_stale_asset_is_one_message_however_often_it_is_looked_at(
    url: str, conn: psycopg.Connection, instance: dg.DagsterInstance, fake: SlackServer
) -> None:
    keys = watched_assets(defs.get_repository_def())
    assert KEY in keys
    for key in keys:
        materialized(key, instance)
    freshness_is(FreshnessState.PASS, instance, *keys)
    cursor = known_for(timedelta(days=1))
    look(freshness, url, instance, cursor)
    assert kinds(conn) == []
    freshness_is(FreshnessState.FAIL, instance, KEY)
    for _ in range(5):
        look(freshness, url, instance, cursor)
        look(notifications, url, instance, slack=slack_for(fake))
    cause = f"stale {KEY.to_user_string()}"
    ((job, found), (error, times)) = next(iter(problems(conn).items()))
    assert (job, found, times) == (ROTATE, cause, 1)
    assert "last materialized" in error
    assert not fake.channel.called("chat.update")
    ledger = "select event_type from audit_events where payload ->> 'object' = %s"
    assert rows(conn, ledger, (cause,)) == [("job_failure",)]
    freshness_is(FreshnessState.WARN, instance, KEY)
    for _ in range(2):
        look(freshness, url, instance, cursor)
    look(notifications, url, instance, slack=slack_for(fake))
    assert len(fake.channel.messages) == 2
    assert problems(conn) == {}


def test_never_materialized_is_stale_after_a_while(
    url: str, conn: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    first = look(freshness, url, instance)
    assert kinds(conn) == [], "a first start raises no storm"
    look(freshness, url, instance, first.cursor)
    repository = defs.get_repository_def()
    keys = watched_assets(repository)
    shortest, longest = (pick(grace(repository, key) for key in keys) for pick in (min, max))
    assert shortest < grace(repository, KEY) < longest, "hourly, daily and weekly assets"
    look(freshness, url, instance, known_for(shortest - timedelta(minutes=5)))
    assert kinds(conn) == []
    look(freshness, url, instance, known_for(grace(repository, KEY) + timedelta(minutes=5)))
    assert ("failure", ROTATE) in kinds(conn)
    assert ("failure", "weekly_job_review") not in kinds(conn), "its first Monday is still to come"
    assert {error for error, _ in problems(conn).values()} == {"never materialized"}
    look(freshness, url, instance, known_for(longest + timedelta(minutes=5)))
    assert len(problems(conn)) == len(keys)
    look(freshness, url, instance)
    assert len(problems(conn)) == len(keys), "a lost cursor proves nothing"
    for key in keys:
        materialized(key, instance)
        freshness_is(FreshnessState.PASS, instance, key)
    look(freshness, url, instance)
    assert problems(conn) == {}
    assert sorted(job for kind, job in kinds(conn) if kind == "failure") == sorted(
        job for kind, job in kinds(conn) if kind == "recovery"
    )


def test_a_stale_asset_that_is_gone_from_the_code_is_forgotten(
    url: str, conn: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    fail(conn, "stale removed_asset")
    look(freshness, url, instance)
    assert problems(conn) == {}


def test_without_a_token_the_messages_wait_and_the_sensor_says_so(
    url: str, conn: psycopg.Connection, instance: dg.DagsterInstance, fake: SlackServer
) -> None:
    fail(conn, "a_view")
    nothing_set = look(notifications, url, instance, slack=Slack())
    assert (
        nothing_set.skip_message == "1 messages wait in lifecycle.notifications: "
        "set SLACK_BOT_TOKEN and SLACK_CHANNEL, or SLACK_WEBHOOK_URL"
    )
    no_channel = look(notifications, url, instance, slack=slack_for(fake, channel=""))
    assert no_channel.skip_message.endswith("set SLACK_CHANNEL")
    assert not fake.channel.calls
    later = look(notifications, url, instance, slack=slack_for(fake))
    assert later.skip_message == "1 delivered, 0 waiting"


def test_slacks_refusal_is_in_the_sensors_reason(
    url: str, conn: psycopg.Connection, instance: dg.DagsterInstance, fake: SlackServer
) -> None:
    fail(conn, "a_view")
    fake.channel.modes["*"] = "invalid_auth"
    refused = look(notifications, url, instance, slack=slack_for(fake))
    assert "SLACK_BOT_TOKEN" in refused.skip_message
