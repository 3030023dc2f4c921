"""The outbox and a Slack that answers, refuses, is slow, is away: every message arrives, once, in order."""

import psycopg
import pytest

from lifecycle.database import connect, value
from lifecycle.ledger.notifications import backoff, claim, waiting
from resources.slack import Slack
from sandbox.slack_server import CHANNEL_ID, RETRY_AFTER_SECONDS, SlackServer
from sensors.notifications import drain
from tests.conftest import MakeApplicationDb
from tests.outbox import JOB, add_reports, fail, heal, let_time_pass, outbox, slack_for, texts

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.slack_fixtures",)

SECONDS_UNTIL_DUE = (
    "select extract(epoch from next_attempt_at - now())::float from lifecycle.notifications where id = %s"
)


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def test_ok(conn: psycopg.Connection, fake: SlackServer, slack: Slack) -> None:
    fail(conn, "a_view")
    assert drain(conn, slack).delivered == 1
    assert drain(conn, slack).delivered == 0
    assert len(fake.channel.messages) == 1
    row = outbox(conn)
    assert (row["channel"], row["message_ts"]) == (CHANNEL_ID, fake.channel.messages[0].ts)
    assert (row["attempts"], row["claimed_until"], row["in_doubt"], row["last_error"]) == (0, None, False, None)
    assert waiting(conn) == 0


def test_repeated_failures_edit_the_one_message(conn: psycopg.Connection, fake: SlackServer, slack: Slack) -> None:
    for number in range(100):
        fail(conn, "a_view", error=f"failure {number}")
        if number in (0, 49, 99):
            drain(conn, slack)
    assert len(fake.channel.called("chat.postMessage")) == 1
    assert len(fake.channel.called("chat.update")) == 2
    shown = str(fake.channel.messages[0].blocks)
    assert "100 times" in shown
    assert "failure 99" in shown
    heal(conn, "a_view")
    drain(conn, slack)
    assert len(fake.channel.called("chat.postMessage")) == 2
    assert "works again" in texts(fake)[1]
    assert "100 times" in texts(fake)[1]
    assert "Recovered" in texts(fake)[0]
    assert drain(conn, slack).waiting == 0


def test_order_is_kept_while_the_first_cannot_be_sent(
    conn: psycopg.Connection, fake: SlackServer, slack: Slack
) -> None:
    add_reports(conn, "first", "second", "third")
    fake.channel.modes["*"] = "server_error"
    result = drain(conn, slack)
    assert (result.delivered, result.waiting) == (0, 3)
    assert len(fake.channel.called("chat.postMessage")) == 1
    fake.channel.modes.clear()
    assert drain(conn, slack).delivered == 0, "the first is not due yet and the others wait for it"
    let_time_pass(conn)
    drain(conn, slack)
    assert texts(fake) == ["first", "second", "third"]


def test_an_edit_that_fails_keeps_no_new_message_waiting(
    conn: psycopg.Connection, fake: SlackServer, slack: Slack
) -> None:
    fail(conn, "a_view")
    drain(conn, slack)
    fake.channel.modes["chat.update"] = "server_error"
    fail(conn, "a_view")
    add_reports(conn, "new")
    result = drain(conn, slack)
    assert (result.delivered, result.waiting) == (1, 1)
    assert texts(fake)[1] == "new"


def test_an_edit_of_a_message_that_is_gone_is_given_up(
    conn: psycopg.Connection, fake: SlackServer, slack: Slack
) -> None:
    fail(conn, "a_view")
    drain(conn, slack)
    fake.channel.messages.clear()
    fail(conn, "a_view")
    assert drain(conn, slack).waiting == 0
    assert "message_not_found" in outbox(conn)["last_error"]


def test_rate_limit_is_honoured(conn: psycopg.Connection, fake: SlackServer, slack: Slack) -> None:
    add_reports(conn, "first", "second")
    fake.channel.modes["*"] = "rate_limited"
    result = drain(conn, slack)
    assert f"asks to wait {RETRY_AFTER_SECONDS} s" in str(result.problem)
    assert len(fake.channel.calls) == 1
    due = value(conn, SECONDS_UNTIL_DUE, (outbox(conn)["id"],))
    assert RETRY_AFTER_SECONDS - 5 < due <= RETRY_AFTER_SECONDS
    fake.channel.modes.clear()
    let_time_pass(conn)
    drain(conn, slack)
    assert texts(fake) == ["first", "second"]
    assert not fake.channel.called("conversations.history"), "Slack had said that it did not take it"


@pytest.mark.parametrize("mode", ["server_error", "garbage", "fatal_error", "slow_and_lost"])
def test_without_a_clear_answer_it_is_looked_for_and_sent_again(
    conn: psycopg.Connection, fake: SlackServer, slack: Slack, mode: str
) -> None:
    add_reports(conn, "first")
    fake.channel.modes["chat.postMessage"] = mode
    assert drain(conn, slack).problem
    fake.channel.modes.clear()
    let_time_pass(conn)
    drain(conn, slack)
    assert len(fake.channel.called("conversations.history")) == 1
    assert texts(fake) == ["first"]


def test_an_answer_that_came_too_late_makes_no_second_message(
    conn: psycopg.Connection, fake: SlackServer, slack: Slack
) -> None:
    fail(conn, "a_view")
    fake.channel.modes["chat.postMessage"] = "slow"
    assert "no answer" in str(drain(conn, slack).problem)
    assert len(fake.channel.messages) == 1
    assert outbox(conn)["message_ts"] is None
    fail(conn, "a_view", error="newer")
    fake.channel.modes.clear()
    let_time_pass(conn)
    assert drain(conn, slack).waiting == 0
    assert len(fake.channel.messages) == 1
    assert outbox(conn)["message_ts"] == fake.channel.messages[0].ts
    assert "newer" in str(fake.channel.messages[0].blocks)


def test_doubt_stays_while_looking_fails_too(conn: psycopg.Connection, fake: SlackServer, slack: Slack) -> None:
    add_reports(conn, "first")
    fake.channel.modes["chat.postMessage"] = "slow"
    drain(conn, slack)
    fake.channel.modes = {"conversations.history": "rate_limited"}
    let_time_pass(conn)
    assert "asks to wait" in str(drain(conn, slack).problem)
    fake.channel.modes.clear()
    let_time_pass(conn)
    drain(conn, slack)
    assert texts(fake) == ["first"]
    assert waiting(conn) == 0


def test_an_app_that_may_not_look_sends_at_least_once_and_says_so(
    conn: psycopg.Connection, fake: SlackServer, slack: Slack
) -> None:
    add_reports(conn, "first")
    fake.channel.modes = {"chat.postMessage": "slow", "conversations.history": "missing_scope"}
    drain(conn, slack)
    fake.channel.modes["chat.postMessage"] = "ok"
    let_time_pass(conn)
    drain(conn, slack)
    assert texts(fake) == ["first", "first"]
    assert "may have been sent twice" in outbox(conn)["last_error"]
    assert waiting(conn) == 0


def test_two_databases_in_one_channel_are_told_apart(
    make_application_db: MakeApplicationDb, fake: SlackServer, slack: Slack
) -> None:
    for title in ("staging", "production"):
        with connect(make_application_db(rows=False, migrated=True)) as conn:
            add_reports(conn, title)
            taken = claim(conn)
            assert taken is not None
            let_time_pass(conn)
            drain(conn, slack)
    assert texts(fake) == ["staging", "production"]


def test_down_then_up(conn: psycopg.Connection, slack: Slack, fake: SlackServer) -> None:
    fail(conn, "a_view")
    fake.stop()
    for _ in range(3):
        assert "no answer" in str(drain(conn, slack).problem)
        let_time_pass(conn)
    heal(conn, "a_view")
    assert outbox(conn)["attempts"] == 3
    assert outbox(conn)["in_doubt"] is False, "nobody listened, so nobody has it"
    with SlackServer() as again:
        drain(conn, slack_for(again))
        assert [message.text.partition(" ")[0] for message in again.channel.messages] == ["Recovered:", JOB]


@pytest.mark.parametrize(
    ("code", "step"),
    [("invalid_auth", "SLACK_BOT_TOKEN"), ("channel_not_found", "SLACK_CHANNEL"), ("not_in_channel", "/invite")],
)
def test_a_permanent_refusal_keeps_the_message_and_names_the_next_step(
    conn: psycopg.Connection, fake: SlackServer, slack: Slack, code: str, step: str
) -> None:
    add_reports(conn, "first")
    fake.channel.modes["*"] = code
    result = drain(conn, slack)
    assert code in str(result.problem)
    assert step in str(result.problem)
    assert value(conn, SECONDS_UNTIL_DUE, (outbox(conn)["id"],)) > 600
    fake.channel.modes.clear()
    let_time_pass(conn)
    drain(conn, slack)
    assert texts(fake) == ["first"]


def test_looks_that_slack_refuses_become_plain_text(
    conn: psycopg.Connection, fake: SlackServer, monkeypatch: pytest.MonkeyPatch, slack: Slack
) -> None:
    add_reports(conn, "first", "second")
    real = fake.channel.perform

    def picky(method: str, arguments: dict[str, object]) -> dict[str, object]:
        return {"ok": False, "error": "invalid_blocks"} if "blocks" in arguments else real(method, arguments)

    monkeypatch.setattr(fake.channel, "perform", picky)
    assert drain(conn, slack).delivered == 2
    assert texts(fake) == ["first", "second"]


def test_backoff_grows_to_a_quarter_of_an_hour() -> None:
    waits = [backoff(attempts) for attempts in range(1, 30)]
    assert waits[:3] == [15, 30, 60]
    assert waits == sorted(waits)
    assert waits[-1] == 15 * 60
