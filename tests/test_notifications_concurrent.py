"""Drainers that die, meet, lose their lease, stop in time: the outbox stands between them."""

import os
import signal
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path

import psycopg
import pytest

from lifecycle.database import connect, rows
from lifecycle.ledger.notifications import claim, waiting
from resources.slack import Slack
from sandbox.slack_server import SlackServer
from sensors.notifications import MOST_MESSAGES, deliver, drain
from tests.conftest import MakeApplicationDb
from tests.outbox import TOKEN, add_reports, fail, let_time_pass, slack_for, texts

DRAIN_ONCE = """
import sys
from lifecycle.database import connect
from resources.slack import Slack
from sensors.notifications import drain
url, base_url, token = sys.argv[1:]
with connect(url) as conn:
    drain(conn, Slack(token=token, channel="C0SANDBOX", base_url=base_url, timeout_seconds=60))
"""

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.slack_fixtures",)


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def test_a_drainer_killed_between_slacks_ok_and_its_own_note(
    url: str, conn: psycopg.Connection, fake: SlackServer
) -> None:
    add_reports(conn, "first", "second")
    fake.channel.modes["chat.postMessage"] = "slow"
    fake.channel.delay_seconds = 30
    arguments = [sys.executable, "-c", DRAIN_ONCE, url, fake.base_url, TOKEN]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(arguments, env=environment) as process:
        while not fake.channel.messages:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    fake.channel.modes.clear()
    slack = slack_for(fake)
    assert drain(conn, slack).delivered == 0, "its lease has not ended, and the second waits for the first"
    let_time_pass(conn)
    drain(conn, slack)
    assert texts(fake) == ["first", "second"]
    assert waiting(conn) == 0


def test_two_drainers_at_once_send_nothing_twice_and_keep_the_order(
    url: str, conn: psycopg.Connection, fake: SlackServer, slack: Slack
) -> None:
    titles = [f"message {number}" for number in range(12)]
    add_reports(conn, *titles)
    start = threading.Barrier(3)

    def work() -> None:
        with connect(url) as session:
            start.wait()
            while waiting(session):
                drain(session, slack)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts(fake) == titles


def test_a_drainer_that_lost_its_lease_does_not_disturb_the_next(
    conn: psycopg.Connection, fake: SlackServer, slack: Slack
) -> None:
    add_reports(conn, "first")
    lost = claim(conn, lease=0)
    assert lost is not None
    deliver(slack, lost)
    taken = claim(conn)
    assert taken is not None
    assert taken.in_doubt
    receipt = deliver(slack, taken)
    assert (receipt.version, receipt.ts) == (0, fake.channel.messages[0].ts)
    assert len(fake.channel.messages) == 1


def test_one_look_is_bounded(conn: psycopg.Connection, fake: SlackServer, slack: Slack) -> None:
    add_reports(conn, *(f"message {number}" for number in range(MOST_MESSAGES + 5)))
    ticks = count(0, 10)
    assert drain(conn, slack, most_seconds=35, clock=lambda: next(ticks)).delivered == 3
    result = drain(conn, slack)
    assert (result.delivered, result.waiting) == (MOST_MESSAGES, 2)
    assert len(fake.channel.messages) == MOST_MESSAGES + 3


@pytest.mark.every_version
def test_no_transaction_is_open_while_slack_thinks(url: str, conn: psycopg.Connection, fake: SlackServer) -> None:
    add_reports(conn, "first")
    fake.channel.modes["chat.postMessage"] = "slow"
    thread = threading.Thread(target=drain, args=(conn, slack_for(fake, timeout_seconds=30)))
    thread.start()
    while not fake.channel.messages:
        assert thread.is_alive()
    with connect(url) as other:
        pid = conn.info.backend_pid
        assert rows(other, "select state from pg_stat_activity where pid = %s", (pid,)) == [("idle",)]
        other.execute("set lock_timeout = '1s'")
        fail(other, "a_view")
    thread.join()
    assert texts(fake)[0] == "first"
