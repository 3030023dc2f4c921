"""The outbox of a test's database, as rows; and the passing of time."""

from typing import Any

from psycopg.types.json import Jsonb

from lifecycle.database import Connection, rows, value
from lifecycle.ledger.outcomes import JobOutcome, record_job_outcome
from lifecycle.ledger.problems import report
from resources.slack import Slack
from sandbox.slack_server import SlackServer

TOKEN = "xoxb-123-secret-of-a-test"  # noqa: S105
JOB = "refresh_analytics_hourly"


def slack_for(server: SlackServer, **values: Any) -> Slack:
    """A resource that talks to the server and loses its patience quickly."""
    chosen: dict[str, Any] = {"token": TOKEN, "channel": "C0SANDBOX", "base_url": server.base_url, "timeout_seconds": 1}
    return Slack(**chosen | values)


def kinds(conn: Connection) -> list[tuple[str, str]]:
    """(kind, job) of every message, in order."""
    return [(row[0], row[1]) for row in rows(conn, "select kind, job from lifecycle.notifications order by id")]


def problems(conn: Connection) -> dict[tuple[str, str], tuple[str, int]]:
    """(job, cause) to (error, times) of what fails now."""
    found = rows(conn, "select job, cause, error, times from lifecycle.open_problems")
    return {(job, cause): (error, times) for job, cause, error, times in found}


def outbox(conn: Connection, number: int = 0) -> dict[str, Any]:
    """One message of the outbox as a dictionary, by its place."""
    query = "select to_jsonb(n) from lifecycle.notifications n order by id offset %s limit 1"
    found: dict[str, Any] = value(conn, query, (number,))
    return found


def let_time_pass(conn: Connection) -> None:
    """Leases have ended and every message is due."""
    conn.execute(
        "update lifecycle.notifications set next_attempt_at = now(), "
        "claimed_until = least(claimed_until, now()) where sent_version < version"
    )


def fail(conn: Connection, *causes: str, job: str = JOB, error: str = "it broke") -> None:
    for cause in causes:
        report(conn, job, cause, error)


def heal(conn: Connection, *causes: str, job: str = JOB) -> None:
    for cause in causes:
        report(conn, job, cause, None)


def ended(conn: Connection, run_id: str, error: str | None = None, **values: Any) -> bool:
    """Record that a run of JOB ended."""
    facts: dict[str, Any] = {"job": JOB, "run_id": run_id, "duration_ms": 5, "error": error}
    return record_job_outcome(conn, JobOutcome(**facts | values))


def texts(fake: SlackServer) -> list[str]:
    """What the channel holds, in order."""
    return [message.text for message in fake.channel.messages]


def add_reports(conn: Connection, *titles: str) -> None:
    """Put reports into the outbox, one message each."""
    for title in titles:
        conn.execute(
            "insert into lifecycle.notifications (kind, job, content) values ('report', 'weekly_job_review', %s)",
            (Jsonb({"title": title}),),
        )
