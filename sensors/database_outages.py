"""An outage of the application's database, told to Slack directly: the outbox lies in the database that is away.

What is known of an outage stands in the sensor's cursor, in Dagster's own storage. Each message is marked, and is
looked for before it is sent again.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg

from lifecycle.errors import NotDeliveredError, UnreachableError
from resources.postgres import ApplicationDatabase
from resources.slack import Slack
from sensors.messages import outage_message, outage_over_message
from sensors.notifications import look_for

LOOK_SECONDS: Final = 10
# With the distance of two looks a minute: a restart of the server calls nobody.
TELL_AFTER: Final = timedelta(seconds=50)


@dataclass(frozen=True)
class Outage:
    """An outage that goes on or whose end is still to be told. Moments in ISO format.

    `told`: Slack knows of it. `over`: since when the database answers again. `in_doubt`: no answer to the last message.
    """

    since: str
    told: bool = False
    over: str | None = None
    in_doubt: bool = False


def after_look(known: Outage | None, away: bool, now: datetime) -> Outage | None:
    """The outage as it stands after a look; None when there is none. One that nobody was told of ends in silence."""
    moment = now.isoformat()
    if away:
        return replace(known, over=None) if known else Outage(moment)
    if known is None or not known.told:
        return None
    return known if known.over else replace(known, over=moment)


def tell(slack: Slack, outage: Outage, reason: str | None) -> Outage | None:
    """Tell Slack that the outage goes on or is over; None when all of it is told. Raises NotDeliveredError."""
    since = datetime.fromisoformat(outage.since)
    if outage.over is None:
        message, kind = outage_message(reason or "", since), "began"
    else:
        message, kind = outage_over_message(since, datetime.fromisoformat(outage.over)), "over"
    payload: dict[str, Any] = {"outage": outage.since, "kind": kind}
    found = look_for(slack, payload, since)[0] if outage.in_doubt else None
    # What a webhook did not answer counts as told: nobody can look for it, and our looks are seconds apart.
    if found is None and not (outage.in_doubt and slack.by_webhook):
        slack.post(message, payload)
    return replace(outage, told=True, in_doubt=False) if outage.over is None else None


def told_or_kept(slack: Slack, outage: Outage, reason: str | None) -> tuple[Outage | None, str | None]:
    """The outage after Slack was told, or as it is, to be told at the next look, and why."""
    try:
        return tell(slack, outage, reason), None
    except NotDeliveredError as error:
        return replace(outage, in_doubt=outage.in_doubt or error.in_doubt), str(error)


def why_away(database: ApplicationDatabase) -> str | None:
    """Why the database cannot be reached; None when it answers."""
    try:
        with database.connect() as conn:
            conn.execute("select 1")
    except UnreachableError as error:
        return str(error)
    return None


def build_database_outages(
    *,
    tell_after: timedelta = TELL_AFTER,
    look_seconds: int = LOOK_SECONDS,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """The sensor; tests are less patient."""

    @dg.sensor(
        name="database_outages",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=look_seconds,
        description="Tells Slack directly when the database cannot be reached for a minute, and when it answers again.",
    )
    def database_outages(
        context: dg.SensorEvaluationContext, database: ApplicationDatabase, slack: Slack
    ) -> dg.SensorResult:
        """Look whether the database answers, and tell what is due."""
        kept = json.loads(context.cursor or "null")
        known = Outage(**kept) if kept else None
        reason, now = why_away(database), clock()
        outage = after_look(known, reason is not None, now)
        told = f"{reason} (since {outage.since})" if reason and outage else "the database answers"
        due = outage is not None and (
            outage.over is not None or (not outage.told and now - datetime.fromisoformat(outage.since) >= tell_after)
        )
        if outage and due:
            if missing := slack.missing_variables:
                told += f"; nobody is told: set {missing}"
            else:
                outage, trouble = told_or_kept(slack, outage, reason)
                told += f"; Slack is told at the next look: {trouble}" if trouble else ""
        return dg.SensorResult(skip_reason=told, cursor=json.dumps(asdict(outage) if outage else None))

    return database_outages


database_outages: Final = build_database_outages()
