"""Whether everything that should run does: what a monitor, a container platform or a person asks."""

import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg
import psycopg

from lifecycle.database import connect, value
from lifecycle.errors import LifecycleError
from lifecycle.migrating.state import RELEASE, is_migrated
from lifecycle.release import release
from lifecycle.server_errors import told

NAME: Final = "lifecycle health"
# This sensor looks twice a minute; it needs the definitions, the daemon and both databases. The daemon's threads give
# a sign twice a minute, too. Dagster itself calls a daemon dead after half an hour.
BUSY_SENSOR: Final = "run_outcomes"
LONGEST_SILENCE: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Part:
    """One thing that has to work: whether it does, and why one says so."""

    name: str
    healthy: bool
    told: str


def why_silent(error: psycopg.Error | LifecycleError) -> str:
    """What a database that does not answer says."""
    return told(error) if isinstance(error, psycopg.Error) else str(error)


def application_database(url: str) -> Part:
    """Whether the application's database answers and was migrated by this release."""
    try:
        with connect(url, application_name=NAME) as conn:
            there = value(conn, RELEASE) if is_migrated(conn) else None
    except (psycopg.Error, LifecycleError) as error:
        return Part("database", False, why_silent(error))
    if there != release():
        state = f"was migrated by release {there}" if there else "is not prepared"
        return Part("database", False, f"{state}, this is {release()}: run `lifecycle migrate`")
    return Part("database", True, f"answers, migrated by release {there}")


def dagster_database(url: str, home: Path) -> Part:
    """Whether Dagster's settings are there and its own database answers."""
    if not (home / "dagster.yaml").is_file():
        return Part("Dagster's database", False, f"{home} has no dagster.yaml: run `lifecycle home`")
    try:
        with connect(url, application_name=NAME):
            return Part("Dagster's database", True, "answers")
    except (psycopg.Error, LifecycleError) as error:
        return Part("Dagster's database", False, why_silent(error))


def daemon(instance: dg.DagsterInstance, now: datetime) -> Part:
    """Whether each of the daemon's threads has lately given a sign of life, and met no error."""
    statuses, since = instance.get_daemon_statuses(), (now - LONGEST_SILENCE).timestamp()
    ill = sorted(
        kind.lower()
        for kind, status in statuses.items()
        if not (status.healthy and status.last_heartbeat and status.last_heartbeat.timestamp > since)
    )
    if ill:
        return Part("daemon", False, f"nothing is heard of, or an error came from: {', '.join(ill)}. Is it running?")
    return Part("daemon", True, f"{len(statuses)} threads at work")


def sensors(instance: dg.DagsterInstance, now: datetime) -> Part:
    """Whether the sensor that looks most often has looked: the code is loaded and evaluated."""
    for state in instance.all_instigator_state():
        if state.instigator_name != BUSY_SENSOR:
            continue
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1):
            ago = now - datetime.fromtimestamp(tick.timestamp, UTC)
            seconds, failed = round(ago.total_seconds()), tick.status.value == "FAILURE"
            outcome = "and failed" if failed else "and was well"
            said = f"{BUSY_SENSOR} looked {seconds} s ago {outcome}"
            return Part("sensors", ago < LONGEST_SILENCE and not failed, said)
    return Part("sensors", False, f"{BUSY_SENSOR} has never looked: does the code load, is the daemon running?")


def web_server(url: str) -> Part:
    """Whether the UI answers; a door that asks for a login says nothing of what is behind it."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/server_info", timeout=10):  # noqa: S310 - as it was asked
            return Part("web server", True, f"{url} answers")
    except urllib.error.HTTPError as error:
        return Part("web server", False, f"{url} answers {error.code}: name the web server itself")
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return Part("web server", False, f"{url} does not answer: {reason}")


def look(url: str, storage: str, home: Path, ui: str, now: datetime) -> list[Part]:
    """Each part, in the order in which one needs the other. Changes nothing."""
    parts = [application_database(url), dagster_database(storage, home)]
    if parts[-1].healthy:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            parts += [daemon(instance, now), sensors(instance, now)]
    return [*parts, web_server(ui)] if ui else parts
