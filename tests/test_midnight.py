"""Kept views on a server whose clock goes through midnight and full hours: PostgreSQL under libfaketime.

`make test-all` installs it as root.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.migrating.migrate import upgrade
from sandbox.application import create_application_database
from sandbox.generate import generate
from sandbox.server import Server
from tests.declared import APPLICATION
from tests.kept import A_MESSAGE, differences, refresh

pytestmark = [pytest.mark.every_version, pytest.mark.one_server, pytest.mark.timeout(600)]

LIBRARIES: Final = tuple(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
OFFSET: Final = "FAKETIME_TIMESTAMP_FILE"
MIDNIGHT: Final = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Clock:
    """The clock of the server: a file of which libfaketime reads how far it is from ours."""

    file: Path

    def set(self, moment: datetime) -> None:
        """From now on it is this moment there, and time goes on."""
        partial = self.file.with_suffix(".new")
        partial.write_text(f"{(moment - datetime.now(UTC)).total_seconds():+.3f}\n")
        partial.chmod(0o644)
        partial.replace(self.file)


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that stands an hour before midnight."""
    # pytest's own folders are closed to the account that the server runs as.
    with TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        found = Clock(Path(folder) / "clock")
        found.set(MIDNIGHT - timedelta(hours=1))
        yield found


@pytest.fixture
def url(clock: Clock, tmp_path: Path) -> Iterator[str]:
    """The application with sample rows up to an hour before midnight, its views kept, on a server with this clock."""
    assert LIBRARIES, "no libfaketime on this machine: apt-get install libfaketime"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(LIBRARIES[0]))
        environment.setenv("FAKETIME_NO_CACHE", "1")
        environment.setenv(OFFSET, str(clock.file))
        slow = Server(tmp_path / "server").start()
    try:
        found = create_application_database(slow, "application")
        generate(found, "small", now=MIDNIGHT - timedelta(hours=1), progress=lambda *_: None)
        upgrade(found, APPLICATION)
        yield found
    finally:
        slow.stop()


def views(conn: Connection, moves: str) -> set[str]:
    """Kept views that move with the clock in this way."""
    found = rows(conn, "select view_name from lifecycle.kept_views where moves = %s", (moves,))
    return {name for (name,) in found}


def stale(conn: Connection) -> set[str]:
    """Views that say something else than their definitions do now."""
    with conn.transaction():
        conn.execute("set local timezone = 'UTC'")
        return set(differences(conn))


def refresh_in_another_zone(conn: Connection) -> None:
    """Midnight is that of the declared zone, whoever refreshes; `always` views are compared at the same moment."""
    with conn.transaction():
        conn.execute("set local timezone = 'Asia/Tokyo'")
        refresh(conn)
        conn.execute("set local timezone = 'UTC'")
        assert differences(conn) == {}


def difference_found_in_another_zone(conn: Connection) -> int:
    """Rows of a tampered table that a comparison finds, asked for where it is another day than in the declared zone."""
    with conn.transaction():
        conn.execute("set local timezone = 'Asia/Tokyo'")
        conn.execute("update lifecycle.kept_user_engagement_scores set total_sessions = total_sessions + 1")
        compare = "select lifecycle.compare_kept_view(v) from lifecycle.kept_views v where view_name = %s"
        return int(value(conn, compare, ("user_engagement_scores",)))


def test_kept_views_follow_the_clock_through_midnight_and_full_hours(url: str, clock: Clock) -> None:
    """A view that reads the day is stale a second after midnight and not before; one refresh cures it."""
    with connect(url) as conn:
        by_day, always = views(conn, "daily"), views(conn, "always")
        (session,) = rows(conn, "select id from chat_sessions order by started_at desc limit 1")[0]

        def at(moment: datetime) -> set[str]:
            """Views of the day that are stale then; a message comes, and all are refreshed."""
            clock.set(moment)
            assert abs(value(conn, "select now()") - moment) < timedelta(seconds=3), "the server has another clock"
            found = stale(conn) - always
            conn.execute(A_MESSAGE.encode(), (moment, session))
            refresh_in_another_zone(conn)
            return found

        assert at(MIDNIGHT - timedelta(seconds=5)) == set()
        turned = at(MIDNIGHT + timedelta(seconds=1))
        assert len(turned) > 10
        assert turned <= by_day
        assert at(MIDNIGHT + timedelta(minutes=59, seconds=55)) == set()
        assert at(MIDNIGHT + timedelta(hours=1, seconds=1)) == set()
        clock.set(MIDNIGHT + timedelta(hours=15))
        assert difference_found_in_another_zone(conn) > 0
        assert at(MIDNIGHT + timedelta(hours=15, seconds=1)) == set(), "midnight in Tokyo"
        turned = at(MIDNIGHT + timedelta(days=1, seconds=1))
        assert len(turned) > 10
        assert turned <= by_day
