"""Two web server logs as page views. Paths and referrers are internet input as it came: only ever bound, never run."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from sandbox.real_data import files, survey
from sandbox.real_data.files import csv_rows
from sandbox.real_data.material import SITE_LOG_DAYS_BACK, Material, row_id
from sandbox.rows.copying import line

SESSION_GAP: Final = timedelta(minutes=30)
ROBOT: Final = re.compile(r"bot|crawl|spider|slurp|monitor|jetmon|feed|curl|wget|python|java/|qwantify|http", re.I)
LOGS: Final = ((files.BLOG_LOG, 0), (files.SITE_LOG, SITE_LOG_DAYS_BACK))


def behavior_events(material: Material) -> Iterator[str]:
    """user_behavior_events, columns as in survey.behavior_events: the survey's answers, then one row per request.

    A session is a client with a user agent, up to a gap of 30 minutes. People get the account of a survey member
    (the client's number decides which); robots stay anonymous.
    """
    yield from survey.behavior_events(material)
    for name, days_back in LOGS:
        yield from requests(material, name, days_back)


def requests(material: Material, name: str, days_back: int = 0) -> Iterator[str]:
    """The requests of one log as rows of user_behavior_events, shifted to end `days_back` days ago."""
    last = max(datetime.fromisoformat(row["ts"]) for row in csv_rows(material.folder, name))
    shift = material.shift(last, days_back)
    log = name.split("_")[1].split(".")[0]
    sessions: dict[tuple[str, str], tuple[int, datetime]] = {}
    for place, row in enumerate(csv_rows(material.folder, name)):
        at = (datetime.fromisoformat(row["ts"]) + shift).astimezone(UTC)
        client = (row["client_id"], row["user_agent"])
        number, before = sessions.get(client, (0, at))
        if at - before > SESSION_GAP:
            number += 1
        sessions[client] = (number, max(at, before))
        person = row["user_agent"] and not ROBOT.search(row["user_agent"])
        account = material.accounts[int(row["client_id"][1:]) * 31 % len(material.accounts)] if person else None
        session = row_id(log, *client, number)
        action = {"type": "request", "method": row["method"], "status": row["status"], "bytes": row["bytes"]}
        yield line(
            *(row_id(log, place), account, session, at, row["path"], row["user_agent"] or None, None, None),
            *(row["referer"] or None, [action], None, at),
        )
