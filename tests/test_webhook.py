"""An incoming webhook in the place of the bot: every message arrives, none again for want of an edit, nothing leaks."""

import logging
from typing import Any

import dagster as dg
import psycopg
import pytest

from lifecycle.database import value
from lifecycle.errors import NotDeliveredError
from lifecycle.ledger.notifications import waiting
from orchestration.definitions import build_definitions
from resources.slack import Slack
from resources.variables import WEBHOOK_VARIABLE
from sandbox.slack_server import RETRY_AFTER_SECONDS, WEBHOOK, SlackServer
from sensors.database_outages import Outage, told_or_kept
from sensors.notifications import MOST_UNANSWERED, drain
from tests.conftest import MakeApplicationDb
from tests.outbox import JOB, add_reports, fail, heal, let_time_pass, outbox, slack_for, texts

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.slack_fixtures",)

MESSAGE = {"text": "hello", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "hello"}}]}
SECONDS_UNTIL_DUE = "select extract(epoch from next_attempt_at - now())::float from lifecycle.notifications"


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def hook_for(server: SlackServer, **values: Any) -> Slack:
    chosen: dict[str, Any] = {"token": "", "channel": "", "webhook_url": server.webhook_url}
    return slack_for(server, **chosen | values)


@pytest.fixture
def hook(fake: SlackServer) -> Slack:
    return hook_for(fake)


def test_messages_arrive_in_order_with_their_looks(conn: psycopg.Connection, fake: SlackServer, hook: Slack) -> None:
    fail(conn, "a_view")
    add_reports(conn, "a report")
    assert drain(conn, hook).waiting == 0
    assert texts(fake) == [f"{JOB} fails: it broke", "a report"]
    assert "What to do" in str(fake.channel.messages[0].blocks)
    assert {name for name, _ in fake.channel.calls} == {WEBHOOK}
    assert outbox(conn)["last_error"] is None


def test_a_hundred_failures_of_one_cause_are_two_messages(
    conn: psycopg.Connection, fake: SlackServer, hook: Slack
) -> None:
    for number in range(100):
        fail(conn, "a_view", error=f"failure {number}")
        if number in (0, 49, 99):
            drain(conn, hook)
    heal(conn, "a_view")
    assert drain(conn, hook).waiting == 0
    assert texts(fake)[0] == f"{JOB} fails: failure 0"
    assert "works again: it failed 100 times" in texts(fake)[1]
    assert len(texts(fake)) == 2


def test_another_cause_is_told_once_however_often_it_comes_and_goes(
    conn: psycopg.Connection, fake: SlackServer, hook: Slack
) -> None:
    fail(conn, "a_view")
    drain(conn, hook)
    for _ in range(3):
        fail(conn, "b_view", error="no space")
        drain(conn, hook)
        heal(conn, "b_view")
        drain(conn, hook)
    fail(conn, "c_view", "d_view")
    drain(conn, hook)
    assert waiting(conn) == 0
    assert texts(fake)[1:] == [f"{JOB} fails in more ways: no space", f"{JOB} fails in more ways: it broke"]
    shown = str(fake.channel.messages[2].blocks)
    assert ("c_view" in shown, "d_view" in shown, "a_view" in shown) == (True, True, False)


def test_another_conversation_tells_its_causes_anew(conn: psycopg.Connection, fake: SlackServer, hook: Slack) -> None:
    for _ in range(2):
        fail(conn, "a_view")
        drain(conn, hook)
        heal(conn, "a_view")
        drain(conn, hook)
    assert [text.partition(":")[0] for text in texts(fake)] == [f"{JOB} fails", f"{JOB} works again"] * 2


def test_rate_limit_is_honoured(conn: psycopg.Connection, fake: SlackServer, hook: Slack) -> None:
    add_reports(conn, "first", "second")
    fake.channel.modes[WEBHOOK] = "rate_limited"
    assert f"asks to wait {RETRY_AFTER_SECONDS} s" in str(drain(conn, hook).problem)
    assert len(fake.channel.calls) == 1
    assert RETRY_AFTER_SECONDS - 5 < value(conn, SECONDS_UNTIL_DUE + " order by id limit 1") <= RETRY_AFTER_SECONDS
    fake.channel.modes.clear()
    let_time_pass(conn)
    drain(conn, hook)
    assert texts(fake) == ["first", "second"]


@pytest.mark.parametrize("code", ["no_service", "invalid_token", "channel_is_archived", "action_prohibited"])
def test_a_permanent_refusal_keeps_the_message_and_names_the_next_step(
    conn: psycopg.Connection, fake: SlackServer, hook: Slack, code: str
) -> None:
    add_reports(conn, "first")
    fake.channel.modes[WEBHOOK] = code
    problem = str(drain(conn, hook).problem)
    assert code in problem
    assert (WEBHOOK_VARIABLE in problem) is (code != "action_prohibited")
    assert value(conn, SECONDS_UNTIL_DUE) > 600
    fake.channel.modes.clear()
    let_time_pass(conn)
    drain(conn, hook)
    assert texts(fake) == ["first"]


def test_looks_that_slack_refuses_become_plain_text(
    conn: psycopg.Connection, fake: SlackServer, monkeypatch: pytest.MonkeyPatch, hook: Slack
) -> None:
    add_reports(conn, "first")
    real = fake.channel.take
    monkeypatch.setattr(fake.channel, "take", lambda body: "invalid_blocks" if "blocks" in body else real(body))
    assert drain(conn, hook).delivered == 1
    assert texts(fake) == ["first"]


@pytest.mark.parametrize("mode", ["server_error", "no_text"])
def test_what_slack_did_not_take_is_sent_until_it_does(
    conn: psycopg.Connection, fake: SlackServer, hook: Slack, mode: str
) -> None:
    add_reports(conn, "first")
    fake.channel.modes[WEBHOOK] = mode
    for _ in range(MOST_UNANSWERED + 2):
        assert drain(conn, hook).waiting == 1
        let_time_pass(conn)
    fake.channel.modes.clear()
    drain(conn, hook)
    assert texts(fake) == ["first"]


@pytest.mark.every_version
def test_answers_that_never_come_fill_no_channel(conn: psycopg.Connection, fake: SlackServer, hook: Slack) -> None:
    add_reports(conn, "first")
    fail(conn, "a_view")
    fake.channel.modes[WEBHOOK] = "slow"
    for _ in range(2 * MOST_UNANSWERED + 4):
        drain(conn, hook)
        let_time_pass(conn)
    assert waiting(conn) == 0
    assert {text: texts(fake).count(text) for text in texts(fake)} == {
        "first": MOST_UNANSWERED,
        f"{JOB} fails: it broke": MOST_UNANSWERED,
    }
    assert "may have been sent twice" in outbox(conn)["last_error"]
    fail(conn, "b_view", error="no space")
    drain(conn, hook)
    let_time_pass(conn)
    drain(conn, hook)
    assert texts(fake)[2 * MOST_UNANSWERED :] == [f"{JOB} fails in more ways: no space"]


def test_an_outage_without_an_answer_is_told_once(fake: SlackServer, hook: Slack) -> None:
    outage: Outage | None = Outage("2026-11-01T12:00:00+00:00")
    fake.channel.modes[WEBHOOK] = "slow"
    for _ in range(3):
        assert outage is not None
        if not outage.told:
            outage, _ = told_or_kept(hook, outage, "the database cannot be reached: away")
    assert outage is not None
    assert outage.told
    assert texts(fake) == ["The database cannot be reached: away"]


def test_the_bot_wins_where_it_is_whole_and_the_conversation_goes_on(
    conn: psycopg.Connection, fake: SlackServer, hook: Slack
) -> None:
    both = slack_for(fake, webhook_url=fake.webhook_url)
    fail(conn, "a_view")
    drain(conn, both)
    fail(conn, "a_view")
    drain(conn, both)
    assert [name for name, _ in fake.channel.calls] == ["chat.postMessage", "chat.update"]
    fail(conn, "b_view")
    assert drain(conn, hook).waiting == 0
    assert "cannot" in outbox(conn)["last_error"]
    heal(conn, "a_view", "b_view")
    fail(conn, "c_view")
    drain(conn, hook)
    fail(conn, "d_view")
    assert drain(conn, both).waiting == 0
    assert texts(fake)[-2:] == [f"{JOB} fails: it broke", f"{JOB} fails in more ways: it broke"]
    assert not hook_for(fake, token="xoxb-half").missing_variables  # noqa: S106 - a bot without a channel


def test_what_is_missing_names_both_ways(fake: SlackServer) -> None:
    assert (
        hook_for(fake, webhook_url="").missing_variables == f"SLACK_BOT_TOKEN and SLACK_CHANNEL, or {WEBHOOK_VARIABLE}"
    )


@pytest.mark.parametrize(
    "mode", ["ok", "rate_limited", "server_error", "garbage", "no_service", "slow", "down", "unknown_host"]
)
def test_the_address_is_in_no_log_and_no_error(fake: SlackServer, caplog: pytest.LogCaptureFixture, mode: str) -> None:
    caplog.set_level(logging.DEBUG)
    fake.channel.modes["*"] = mode
    hook = hook_for(fake)
    if mode == "down":
        fake.stop()
    if mode == "unknown_host":
        hook = hook_for(fake, webhook_url="https://no-such-host.invalid/services/T0/B0/secret-of-the-sandbox")
    told = repr(hook)
    if mode == "ok":
        hook.post(MESSAGE, {"id": 1})
    else:
        with pytest.raises(NotDeliveredError) as refused:
            hook.post(MESSAGE, {"id": 1})
        assert refused.value.in_doubt is (mode in ("garbage", "slow"))
        told += repr(refused.value)
        told += "" if refused.value.__suppress_context__ else repr(refused.value.__context__)
    assert "secret" not in caplog.text + told
    assert "/services/" not in caplog.text + told


@pytest.mark.parametrize(
    "address", ["hooks.slack.com/services/secret", "https://hooks.slack.com/secr et", "https://x/\n"]
)
def test_an_address_that_is_none_is_refused_without_quoting_it(
    fake: SlackServer, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(NotDeliveredError) as refused:
        hook_for(fake, webhook_url=address).post(MESSAGE, {"id": 1})
    assert refused.value.permanent
    assert not fake.channel.calls
    assert "secr" not in caplog.text + str(refused.value)


def test_the_environment_names_it_and_no_definition_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, "https://hooks.slack.com/services/secret")
    definitions = build_definitions()
    assert "services/secret" not in repr(definitions.resources)
    with dg.build_resources({"slack": definitions.resources["slack"]}) as made:  # type: ignore[index]
        assert made.slack.by_webhook
        assert made.slack.webhook_url == "https://hooks.slack.com/services/secret"
