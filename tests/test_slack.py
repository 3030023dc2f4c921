"""What Slack gets to see, and what it and the logs never see."""

import html
import logging
import re
import socket
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lifecycle.errors import NotDeliveredError
from lifecycle.ledger.notifications import Claim
from orchestration.definitions import build_definitions
from resources.slack import Slack
from sandbox.slack_server import SlackServer
from sensors.messages import escaped, slack_message, span
from sensors.next_steps import NEXT_STEPS, PAGE
from tests.docs_pages import ROOT
from tests.outbox import TOKEN, slack_for

pytest_plugins = ("tests.slack_fixtures",)

UI = "http://dagster.example:3000/"
SINCE = datetime(2026, 11, 24, 1, 30, tzinfo=UTC)
MESSAGE = {"text": "hello", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "hello"}}]}


def problem(
    cause: str = "a_view", error: str = "it broke", run_id: str | None = None, times: int = 1
) -> dict[str, Any]:
    return {"cause": cause, "error": error, "run_id": run_id, "times": times, "since": SINCE.isoformat()}


def message(kind: Any, content: dict[str, Any], job: str = "rotate_event_partitions", **values: Any) -> dict[str, Any]:
    taken: dict[str, Any] = {
        "id": 1,
        "kind": kind,
        "job": job,
        "content": content,
        "created_at": SINCE + timedelta(hours=3, minutes=20),
        "closed_at": None,
        "version": 1,
        "channel": None,
        "message_ts": None,
        "attempts": 1,
        "claimed_until": SINCE,
        "in_doubt": False,
    }
    return slack_message(Claim(**taken | values), UI)


def shown(sent: dict[str, Any]) -> str:
    texts = []
    for block in sent["blocks"]:
        texts += [part["text"] for part in (block["elements"] if block["type"] == "context" else [block["text"]])]
    return "\n".join(texts)


def within_limits(sent: dict[str, Any]) -> bool:
    """Slack's limits for what is used here."""
    blocks = sent["blocks"]
    longest = {"header": 150, "section": 3000}
    return len(blocks) <= 50 and all(
        len(block["text"]["text"]) <= longest[block["type"]] for block in blocks if block["type"] in longest
    )


def test_a_failure_says_what_where_since_when_how_often_and_what_to_do() -> None:
    content = {"problems": [problem(run_id="abc-1", times=12), problem("b_view", "no space")], "failures": 13}
    text = shown(message("failure", content))
    for expected in (
        "rotate_event_partitions",
        "*a_view*\n```it broke```",
        "2026-11-24 01:30 UTC",
        "12 times",
        "13 times",
        "<http://dagster.example:3000/runs/abc-1|open the run>",
        "*b_view*\n```no space```",
        NEXT_STEPS["rotate_event_partitions"],
        PAGE,
    ):
        assert expected in text
    assert text.count("/runs/") == 1
    assert (ROOT / PAGE).is_file()


def test_the_phone_shows_job_and_error() -> None:
    sent = message("failure", {"problems": [problem()], "failures": 1})
    assert sent["text"] == "rotate_event_partitions fails: it broke"


def test_advice_fits_what_failed() -> None:
    stale = shown(message("failure", {"problems": [problem("stale event_partitions/a")], "failures": 1}))
    check = shown(message("failure", {"problems": [problem("check event_partitions/a is_fresh")], "failures": 1}))
    assert "does the daemon run" in stale
    assert "Check:" in check
    assert NEXT_STEPS["rotate_event_partitions"] not in stale + check
    by_hand = shown(message("failure", {"problems": [problem("run of a")], "failures": 1}, job="__ASSET_JOB"))
    assert "__ASSET_JOB" not in by_hand
    assert NEXT_STEPS["__ASSET_JOB"] in by_hand


def test_every_job_has_its_next_step() -> None:
    assert {job.name for job in build_definitions().jobs or ()} <= set(NEXT_STEPS)


def test_a_recovery_tells_duration_and_count() -> None:
    sent = message("recovery", {"since": SINCE.isoformat(), "failures": 7, "failure_id": 1})
    assert sent["text"] == "rotate_event_partitions works again: it failed 7 times in 3 h 20 min"
    assert sent["text"] in shown(sent)


def test_a_report_shows_lines_table_and_link() -> None:
    content = {"title": "Week 47", "lines": ["a < b", "c"], "table": "job  runs\nx    12", "run_id": "abc-2"}
    text = shown(message("report", content))
    assert text.splitlines()[:3] == ["Week 47", "a &lt; b", "c"]
    assert "```job  runs\nx    12```" in text
    assert "/runs/abc-2" in text


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("failure", {"problems": [problem("<&>" * 200, "<&>" * 500, "r" * 36)] * 100, "failures": 100}),
        ("failure", {"problems": [], "failures": 1}),
        ("report", {"title": "<" * 500, "lines": ["&" * 5000] * 500, "table": "\n".join(["<" * 400] * 900)}),
        ("report", {}),
        ("recovery", {"since": SINCE.isoformat(), "failures": 10**9}),
    ],
)
def test_any_content_stays_within_slacks_limits(kind: str, content: dict[str, Any]) -> None:
    sent = message(kind, content, job="j" * 300)
    assert within_limits(sent)
    assert len(sent["text"]) <= 3000


def test_text_of_an_error_cannot_call_the_channel_or_leave_its_block() -> None:
    sent = message("failure", {"problems": [problem(error="<!channel> & ``` *bold*")], "failures": 1})
    assert "&lt;!channel&gt; &amp; ''' *bold*" in shown(sent)
    assert "<!channel>" not in shown(sent) + sent["text"]
    assert html.unescape(escaped("a<b&c")) == "a<b&c"


def test_spans_are_read_at_a_glance() -> None:
    lengths = [timedelta(seconds=20), timedelta(minutes=59), timedelta(minutes=200), timedelta(days=3, hours=5)]
    assert [span(length) for length in lengths] == ["0 min", "59 min", "3 h 20 min", "3 d 5 h"]


def test_the_page_shows_what_slack_would_show(fake: SlackServer) -> None:
    content = {"problems": [problem(error="a <script> & more", run_id="abc-1")], "failures": 1}
    slack_for(fake).post(message("failure", content), {"id": 1})
    with urllib.request.urlopen(fake.url) as answer:  # noqa: S310 - a server of this test
        page = answer.read().decode()
    assert "<pre>a &lt;script&gt; &amp; more</pre>" in page
    assert 'href="http://dagster.example:3000/runs/abc-1"' in page
    assert "2026-11-24 01:30 UTC" in page
    assert "<script>" not in page


@pytest.mark.parametrize("mode", ["ok", "rate_limited", "server_error", "garbage", "invalid_auth", "slow", "down"])
def test_the_token_is_in_no_log_and_no_error(fake: SlackServer, caplog: pytest.LogCaptureFixture, mode: str) -> None:
    caplog.set_level(logging.DEBUG)
    fake.channel.modes["*"] = mode
    slack = slack_for(fake)
    if mode == "down":
        fake.stop()
    errors = []
    for call in (lambda: slack.post(MESSAGE, {"id": 1}), lambda: slack.find({"id": 1}, SINCE)):
        try:
            call()
        except NotDeliveredError as error:
            errors.append(repr(error))
            if not error.__suppress_context__:
                errors.append(repr(error.__context__))
    assert bool(errors) is (mode != "ok")
    assert TOKEN not in caplog.text + "".join(errors)


@pytest.mark.parametrize("token", ["xoxb-secret\nX-Evil: 1", "xoxb-sécret", "xoxb secret"])
def test_a_token_that_is_none_is_refused_without_quoting_it(
    fake: SlackServer, caplog: pytest.LogCaptureFixture, token: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(NotDeliveredError) as refused:
        slack_for(fake, token=token).post(MESSAGE, {"id": 1})
    assert refused.value.permanent
    assert not fake.channel.calls
    assert not re.search("cret", caplog.text + str(refused.value))


def test_the_client_tries_once(fake: SlackServer) -> None:
    for mode in ("rate_limited", "server_error", "garbage", "slow"):
        fake.channel.modes["*"] = mode
        before = len(fake.channel.calls)
        with pytest.raises(NotDeliveredError):
            slack_for(fake).post(MESSAGE, {"id": 1})
        assert len(fake.channel.calls) == before + 1, mode


def test_a_host_without_a_name_or_a_listener_leaves_no_endless_wait() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{bound.getsockname()[1]}/api/"
    with pytest.raises(NotDeliveredError) as refused:
        Slack(token=TOKEN, channel="C1", base_url=closed).post(MESSAGE, {"id": 1})
    assert not refused.value.in_doubt


def test_a_message_is_found_on_a_later_page(fake: SlackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    slack = slack_for(fake)
    channel, ts = slack.post(MESSAGE, {"id": 7})
    real = fake.channel.perform

    def paged(method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        answer = real(method, arguments)
        if method == "conversations.history" and not arguments.get("cursor"):
            return {"ok": True, "messages": [], "response_metadata": {"next_cursor": "next"}}
        return answer

    monkeypatch.setattr(fake.channel, "perform", paged)
    assert slack.find({"id": 7}, SINCE) == (channel, ts)
    assert slack.find({"id": 8}, SINCE) is None
