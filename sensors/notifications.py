"""Hands the messages of the outbox to Slack, in order, until Slack says ok.

A message is never sent twice because its answer was lost: it carries its own number, and is looked for in the channel
before it is sent again. Where the app may not read the channel, it is sent again all the same: at least once. So it is
through a webhook, but no more than three times without an answer.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg

from lifecycle.database import Connection
from lifecycle.errors import NotDeliveredError
from lifecycle.ledger.notifications import (
    LONGEST_BACKOFF_SECONDS,
    Claim,
    backoff,
    claim,
    mark_failed,
    mark_sent,
    waiting,
)
from resources import webhook
from resources.postgres import ApplicationDatabase
from resources.slack import Slack
from sensors.messages import further_message, slack_message
from sensors.outages import waits_while_away
from sensors.webhook_updates import told_mark, untold

MOST_MESSAGES: Final = 20
# Dagster ends a sensor that takes longer than a minute.
MOST_SECONDS: Final = 40
# The database's clock and Slack's may differ.
CLOCK_SKEW: Final = timedelta(minutes=5)
# Nobody can edit these any more; the next message of the job is a new one.
NO_MORE_EDITS: Final = (
    "message_not_found",
    "cant_update_message",
    "edit_window_closed",
    "channel_not_found",
    "is_archived",
    "is_inactive",
)
CANNOT_LOOK: Final = ("missing_scope", "channel_not_found", "not_in_channel", "invalid_channel", webhook.CHANNEL)
BAD_BLOCKS: Final = (
    "invalid_blocks",
    "invalid_blocks_format",
    "msg_blocks_too_long",
    "invalid_arguments",
    "invalid_payload",
)
# Each may have arrived; more would fill the channel while Slack's answers are lost.
MOST_UNANSWERED: Final = 3


@dataclass(frozen=True)
class Receipt:
    """Where a message is now, in which version (0: unknown), and what is to be said about it."""

    channel: str
    ts: str
    version: int
    note: str | None = None


@dataclass(frozen=True)
class Drained:
    """What one look at the outbox did. `problem` is why it ended early."""

    delivered: int
    waiting: int
    problem: str | None = None


def _without_bad_blocks(send: Callable[[dict[str, Any]], Any], message: dict[str, Any]) -> Any:
    """A message whose looks Slack refuses goes as plain text: it would keep all later ones waiting for ever."""
    try:
        return send(message)
    except NotDeliveredError as error:
        if error.code not in BAD_BLOCKS:
            raise
        return send({"text": message["text"]})


def _edit(slack: Slack, taken: Claim, channel: str, ts: str) -> Receipt:
    message = slack_message(taken, slack.ui_url)
    try:
        _without_bad_blocks(lambda text: slack.edit(channel, ts, text), message)
    except NotDeliveredError as error:
        if error.code not in NO_MORE_EDITS:
            raise
        return Receipt(channel, ts, taken.version, f"not edited: {error}")
    return Receipt(channel, ts, taken.version)


def _tell_further(slack: Slack, taken: Claim) -> Receipt:
    """Instead of an edit. A message without an answer counts as told, since nobody can look for it."""
    told, note = told_mark(taken, taken.message_ts), None
    if problems := untold(taken):
        try:
            _without_bad_blocks(
                lambda message: slack.post(message, {"id": taken.id, "version": taken.version}),
                further_message(taken, problems, slack.ui_url),
            )
        except NotDeliveredError as error:
            if not error.in_doubt:
                raise
            note = f"an addition may not have arrived: {error}"
    return Receipt(webhook.CHANNEL, told, taken.version, note)


def look_for(slack: Slack, payload: Mapping[str, Any], since: datetime) -> tuple[tuple[str, str] | None, str | None]:
    """Where a message is that may have arrived, and what is to be said about it. Raises NotDeliveredError, in doubt."""
    try:
        return slack.find(payload, since - CLOCK_SKEW), None
    except NotDeliveredError as error:
        if error.code not in CANNOT_LOOK:
            raise NotDeliveredError(
                str(error), code=error.code, retry_after=error.retry_after, in_doubt=True, permanent=error.permanent
            ) from None
        return None, f"may have been sent twice, nobody can look: {error}"


def deliver(slack: Slack, taken: Claim) -> Receipt:
    """Send or edit one message. Raises NotDeliveredError."""
    if taken.channel == webhook.CHANNEL:
        return _tell_further(slack, taken)
    if taken.channel and taken.message_ts:
        if slack.by_webhook:
            return Receipt(taken.channel, taken.message_ts, taken.version, "not edited: a webhook cannot")
        return _edit(slack, taken, taken.channel, taken.message_ts)
    # The moment tells two databases apart that share a channel.
    payload = {"id": taken.id, "created_at": taken.created_at.astimezone(UTC).isoformat()}
    found, note = look_for(slack, payload, taken.created_at) if taken.in_doubt else (None, None)
    if found:
        return Receipt(*found, version=0)
    if note and slack.by_webhook and taken.attempts > MOST_UNANSWERED:
        return Receipt(webhook.CHANNEL, told_mark(taken), taken.version, f"{note}; not sent again")
    channel, ts = _without_bad_blocks(lambda message: slack.post(message, payload), slack_message(taken, slack.ui_url))
    return Receipt(channel, ts or told_mark(taken), taken.version, note)


def drain(
    conn: Connection,
    slack: Slack,
    *,
    most_messages: int = MOST_MESSAGES,
    most_seconds: float = MOST_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Drained:
    """Hand over what is due, until nothing is, the time is up, or Slack does not take one."""
    delivered, end = 0, clock() + most_seconds
    for _ in range(most_messages):
        taken = claim(conn) if clock() < end else None
        if taken is None:
            break
        try:
            receipt = deliver(slack, taken)
        except NotDeliveredError as error:
            wait = LONGEST_BACKOFF_SECONDS if error.permanent else backoff(taken.attempts)
            wait = error.retry_after or wait
            mark_failed(conn, taken, str(error), wait=wait, in_doubt=error.in_doubt and taken.message_ts is None)
            problem = f"message {taken.id} ({taken.kind} of {taken.job}) is tried again in {wait:.0f} s: {error}"
            return Drained(delivered, waiting(conn), problem)
        mark_sent(conn, taken, receipt.channel, receipt.ts, version=receipt.version, note=receipt.note)
        delivered += 1
    return Drained(delivered, waiting(conn))


@dg.sensor(
    name="notifications",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Hands the messages of lifecycle.notifications to Slack, in order, until Slack says ok.",
)
@waits_while_away
def notifications(context: dg.SensorEvaluationContext, database: ApplicationDatabase, slack: Slack) -> dg.SkipReason:
    """Drain the outbox once; without a token or a channel say how many messages wait."""
    with database.connect() as conn:
        if missing := slack.missing_variables:
            count = waiting(conn)
            text = f"{count} messages wait in lifecycle.notifications: set {missing}"
            if count:
                context.log.warning(text)
            return dg.SkipReason(text)
        drained = drain(conn, slack)
    if drained.problem:
        context.log.warning(drained.problem)
    tail = f"; {drained.problem}" if drained.problem else ""
    return dg.SkipReason(f"{drained.delivered} delivered, {drained.waiting} waiting{tail}")
