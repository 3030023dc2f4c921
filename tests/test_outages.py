"""A database that is away: who is told, when, how often; and that sensors wait. With a real daemon: test_daemon.py."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from lifecycle.errors import BusyError, UnreachableError
from orchestration.definitions import defs
from resources.postgres import ApplicationDatabase, errors_for_dagster
from resources.slack import Slack
from sandbox.server import SUPERUSER, Server
from sandbox.slack_server import SlackServer
from sensors.database_outages import TELL_AFTER, build_database_outages
from tests.outbox import slack_for, texts

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.slack_fixtures",)

STARTS = datetime(2026, 11, 1, 12, tzinfo=UTC)
BEGAN, OVER = "The database cannot be reached: ", "The database answers again: "
PASSWORD = "Tanaka@secret"  # noqa: S105


class World:
    """A database that can go away, a clock, and the sensor that looks."""

    def __init__(self, server: Server, name: str, instance: dg.DagsterInstance, slack: Slack) -> None:
        self.server, self.name, self.instance, self.slack = server, name, instance, slack
        self.url = make_url(server.url()).set(database=name).render_as_string(hide_password=False)
        self.now = STARTS
        self.cursor: str | None = None

    def look(self, after: timedelta = timedelta(seconds=10)) -> str:
        self.now += after
        sensor = build_database_outages(clock=lambda: self.now)
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, definitions=defs) as context:
            result = sensor(context, database=ApplicationDatabase(url=self.url), slack=self.slack)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return str(result.skip_reason and result.skip_reason.skip_message)

    def away(self, is_away: bool = True) -> None:
        with psycopg.connect(self.server.url(user=SUPERUSER), autocommit=True) as conn:
            word = sql.SQL("false" if is_away else "true")
            conn.execute(sql.SQL("alter database {} allow_connections {}").format(sql.Identifier(self.name), word))
            conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (self.name,))


@pytest.fixture
def world(server: Server, instance: dg.DagsterInstance, fake: SlackServer) -> Iterator[World]:
    name = "outage"
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        yield World(server, name, instance, slack_for(fake))
        conn.execute(sql.SQL("drop database {} (force)").format(sql.Identifier(name)))


def test_an_outage_is_told_once_after_a_minute_and_its_end_once(world: World, fake: SlackServer) -> None:
    assert world.look() == "the database answers"
    world.away()
    assert "not currently accepting connections" in world.look()
    world.look(TELL_AFTER - timedelta(seconds=1))
    assert texts(fake) == []
    for _ in range(5):
        world.look(timedelta(seconds=1))
    assert texts(fake) == [f'{BEGAN}database "outage" is not currently accepting connections']
    world.away(False)
    for _ in range(3):
        world.look(timedelta(minutes=2))
    assert texts(fake)[1:] == [f"{OVER}it was away for 3 min"]
    world.away()
    world.look()
    world.look(TELL_AFTER)
    assert len(texts(fake)) == 3, "another outage is another message"


def test_a_short_outage_calls_nobody(world: World, fake: SlackServer) -> None:
    for _ in range(3):
        world.away()
        world.look()
        world.away(False)
        world.look(TELL_AFTER)
    assert not fake.channel.calls


@pytest.mark.parametrize("mode", ["server_error", "slow", "slow_and_lost", "rate_limited"])
def test_a_message_that_slack_did_not_confirm_is_sent_until_it_does_and_not_twice(
    world: World, fake: SlackServer, mode: str
) -> None:
    world.away()
    world.look()
    fake.channel.modes["chat.postMessage"] = mode
    assert "Slack is told at the next look" in world.look(TELL_AFTER)
    fake.channel.modes.clear()
    for _ in range(2):
        world.look()
    assert len(texts(fake)) == 1
    world.away(False)
    fake.channel.modes["chat.postMessage"] = mode
    world.look()
    fake.channel.modes.clear()
    for _ in range(2):
        world.look()
    assert [text.startswith(start) for text, start in zip(texts(fake), (BEGAN, OVER), strict=True)] == [True, True]


def test_without_a_token_the_sensor_says_what_is_missing(world: World, fake: SlackServer) -> None:
    world.slack = slack_for(fake, token="")
    world.away()
    world.look()
    assert "SLACK_BOT_TOKEN" in world.look(TELL_AFTER)
    world.away(False)
    assert world.look() == "the database answers"


def test_every_sensor_of_the_database_waits_and_keeps_its_cursor(
    world: World, fake: SlackServer, instance: dg.DagsterInstance
) -> None:
    world.away()
    users = [
        s for s in defs.sensors or () if isinstance(s, dg.SensorDefinition) and "database" in s.required_resource_keys
    ]
    assert len(users) >= 5
    values: dict[str, Any] = {"database": ApplicationDatabase(url=world.url), "slack": slack_for(fake)}
    # Something to write for those that write only when there is something.
    for key in defs.resolve_asset_graph().materializable_asset_keys:
        instance.report_runless_asset_event(dg.AssetMaterialization(key))
    instance.report_run_failed(instance.create_run_for_job(defs.resolve_job_def("record_storage")), "on purpose")
    for sensor in users:
        resources = {name: values[name] for name in sensor.required_resource_keys}
        cursor = (
            None if sensor.name == "database_outages" else "{}" if sensor.name == "freshness" else STARTS.isoformat()
        )
        with dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs) as context:
            result = sensor(context, **resources)
        if sensor.name != "database_outages":
            assert isinstance(result, dg.SkipReason), sensor.name
            assert context.cursor == cursor
            message = str(result.skip_message)
        else:
            assert isinstance(result, dg.SensorResult)
            message = str(result.skip_reason)
        assert "the database cannot be reached" in message
        assert "\n" not in message


def test_only_a_database_that_is_away_is_away(world: World) -> None:
    database = ApplicationDatabase(url=world.url)
    with database.connect() as conn:
        conn.execute("set statement_timeout = 10")
        with pytest.raises(BusyError, match="or was busy") as busy, errors_for_dagster():
            conn.execute("select pg_sleep(1)")
    assert not isinstance(busy.value, UnreachableError)
    with database.connect() as conn:
        world.away()
        with pytest.raises(UnreachableError), errors_for_dagster():
            conn.execute("select 1")
    with pytest.raises(dg.Failure), ApplicationDatabase(url="").connect():
        pass


def test_the_reason_names_no_part_of_the_password(world: World) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        for url in (
            f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres",
            f"postgresql://postgres:{PASSWORD}@no-such-host.invalid:5432/postgres",
            make_url(world.url).set(password=PASSWORD).render_as_string(hide_password=False),
        ):
            with pytest.raises((UnreachableError, dg.Failure)) as refused, ApplicationDatabase(url=url).connect():
                pass
            told = f"{refused.value} {getattr(refused.value, 'description', '')}"
            assert "secret" not in told, url
            assert "Tanaka" not in told
