"""Killed anywhere, by SIGKILL or from the server's side: the next run finishes, and no row or trace is left over."""

import random
import signal
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
import pytest

from lifecycle.database import Connection, connect, rows
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.months import add_months, month_start
from lifecycle.partitions.plan import plan_conversion
from lifecycle.partitions.status import partition_status
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conversion_kill import executioner, rerun
from tests.conversion_load import BEHAVIOUR, at_step, convert, fill, fingerprint, insert_event, leftovers
from tests.partitioned import set_policy

MakeDb = Callable[..., str]
# Few months, so that every step can have a kill of its own.
SPAN = timedelta(days=40)
SHORT = replace(BEHAVIOUR, months_ahead=1)
TERMINATE = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'lifecycle %'"
NEWEST = "select id from user_behavior_events where session_id = 's1' order by event_timestamp desc limit 2"


def write_meanwhile(conn: Connection, table_rows: dict[uuid.UUID, str]) -> None:
    """Insert, change, move to another month and delete rows, as the application would between kill and rerun."""
    for moment in (None, "2031-01-01", "infinity"):
        table_rows[insert_event(conn, BEHAVIOUR, moment, session="meanwhile")] = "/"
    (changed,), (deleted,) = rows(conn, NEWEST)
    conn.execute(
        "update user_behavior_events set page_url = '/changed', event_timestamp = event_timestamp - interval '35 days'"
        " where id = %s",
        (changed,),
    )
    conn.execute("delete from user_behavior_events where id = %s", (deleted,))
    table_rows[changed] = "/changed"
    del table_rows[deleted]


def content(conn: Connection) -> dict[uuid.UUID, str]:
    found = rows(conn, "select id, page_url from user_behavior_events")
    assert len(found) == len(dict(found)), "a row is there twice"
    return dict(found)


def assert_converted(url: str, now: datetime) -> None:
    with connect(url) as conn:
        assert plan_conversion(conn, BEHAVIOUR, now).state == "done"
        status = partition_status(conn, BEHAVIOUR, now)
        assert status.missing_months == ()
        assert status.stale_dependents == ()
        assert status.exposed == ()
    assert leftovers(url) == []


@pytest.mark.every_version
@pytest.mark.one_server
@pytest.mark.timeout(240)
def test_killed_at_every_step(make_application_db: MakeDb, server: Server, now: datetime) -> None:
    """SIGKILL at each progress message in turn, rows written before the rerun."""
    counted: list[str] = []
    filled = make_application_db(rows=False, migrated=True)
    fill(filled, BEHAVIOUR, now, count=200, span=SPAN, odd=False)
    with connect(filled) as conn:
        set_policy(conn, SHORT, months_ahead=SHORT.months_ahead)
        expected_at_first = content(conn)
    template = filled.rsplit("/", 1)[1]
    url = clone_database(server, template, f"{template}_counted")
    convert_table(url, SHORT, now=now, progress=lambda message, _fraction: counted.append(message))
    assert_converted(url, now)
    with executioner() as conversions:
        for step in range(1, len(counted) + 1):
            url = clone_database(server, template, f"{template}_{step}")
            expected = dict(expected_at_first)
            with connect(url) as conn:
                killed_at, code = conversions.convert(url, SHORT, now, kill_at=step)
                assert code == -signal.SIGKILL, f"not killed, {killed_at!r} was its last message"
                write_meanwhile(conn, expected)
                before = fingerprint(url, BEHAVIOUR)
                rerun(url, SHORT, now)
                assert fingerprint(url, BEHAVIOUR) == before, f"killed at {killed_at!r}"
                assert content(conn) == expected, f"killed at {killed_at!r}"
            assert leftovers(url) == [], f"killed at {killed_at!r}"
            assert_converted(url, now)
            drop_database(server, f"{template}_{step}")
    drop_database(server, f"{template}_counted")


@pytest.mark.every_version
@pytest.mark.timeout(120)
def test_killed_in_the_middle_of_transactions(make_application_db: MakeDb, now: datetime) -> None:
    """SIGKILL at arbitrary moments, again and again on the same table: each run goes on from the one before."""
    moments = random.Random(1)
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=20_000)
    with connect(url) as conn, executioner() as conversions:
        expected = content(conn)
        for _ in range(5):
            conversions.convert(url, BEHAVIOUR, now, kill_after=moments.uniform(0.1, 1.1))
            write_meanwhile(conn, expected)
        rerun(url, BEHAVIOUR, now)
        assert content(conn) == expected
    assert_converted(url, now)


@pytest.mark.one_server
@pytest.mark.parametrize("step", ["key index built", "attached", "capturing", "built", "replayed", "exchanged"])
def test_sessions_ended_by_an_administrator(make_application_db: MakeDb, now: datetime, step: str) -> None:
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=200, span=SPAN, odd=False)
    with connect(url, application_name="administrator") as conn:
        expected = content(conn)
        with pytest.raises((psycopg.OperationalError, psycopg.errors.AdminShutdown)):
            convert_table(url, BEHAVIOUR, now=now, progress=at_step(step, lambda: conn.execute(TERMINATE)))
        write_meanwhile(conn, expected)
        rerun(url, BEHAVIOUR, now)
        assert content(conn) == expected
    assert_converted(url, now)


def test_key_index_that_an_earlier_build_left_invalid(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=200, span=SPAN, odd=False)
    before = fingerprint(url, BEHAVIOUR)
    index = "create unique index concurrently user_behavior_events_legacy_pkey"
    with connect(url) as conn, connect(url, autocommit=False) as writer:
        insert_event(writer, BEHAVIOUR)
        conn.execute("set statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute(f"{index} on user_behavior_events (id, event_timestamp)".encode())
        writer.rollback()
    assert leftovers(url) != []
    convert(url, BEHAVIOUR, now)
    assert fingerprint(url, BEHAVIOUR) == before
    assert_converted(url, now)


@pytest.mark.one_server
@pytest.mark.parametrize("later", [timedelta(0), timedelta(days=45)])
def test_rerun_needs_other_partitions(make_application_db: MakeDb, now: datetime, later: timedelta) -> None:
    """Between kill and rerun a month begins, and rows past retention arrive: copies made before no longer fit all."""
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=200, span=SPAN, odd=False)
    with connect(url) as conn:
        # Beyond the months ahead now, within them after the turn of the month: the default's copy has it already.
        insert_event(conn, BEHAVIOUR, add_months(month_start(now), 4) + timedelta(days=3))
        with pytest.raises(KeyboardInterrupt):
            convert_table(url, BEHAVIOUR, now=now, progress=at_step("partitions built", _interrupt))
        for moment in ("1970-01-01", now - timedelta(days=300), now + timedelta(days=110), now + timedelta(days=300)):
            insert_event(conn, BEHAVIOUR, moment)
        before = fingerprint(url, BEHAVIOUR)
        assert convert(url, BEHAVIOUR, now + later).outcome == "converted"
    assert fingerprint(url, BEHAVIOUR) == before
    assert_converted(url, now + later)


def test_rerun_that_would_split_later_finishes_what_is_split(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=200, span=SPAN, odd=False)
    with pytest.raises(KeyboardInterrupt):
        convert_table(url, BEHAVIOUR, now=now, progress=at_step("exchanged", _interrupt))
    assert convert(url, BEHAVIOUR, now, split_now=False).outcome == "converted"
    assert_converted(url, now)


def _interrupt() -> None:
    raise KeyboardInterrupt
