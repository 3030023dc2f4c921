"""Heavy jobs: held back in quiet hours, paced between their transactions; what is not declared changes nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, time
from pathlib import Path

import dagster as dg
import pytest

from lifecycle.archive.move import archive_rows
from lifecycle.database import connect, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import load_application
from lifecycle.declarations.operations import Operations
from lifecycle.errors import DeclarationError
from lifecycle.pacing import Pacing, share_of
from orchestration import schedules
from orchestration.definitions import build_definitions
from orchestration.schedules import build_schedules
from tests.archived import CHAT, SMALL_BATCHES
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

JOB = "refresh_derived_statistics"
# 09:00 and 12:00 in Tokyo.
QUIET, FREE = datetime(2026, 5, 1, 0, tzinfo=UTC), datetime(2026, 5, 1, 3, tzinfo=UTC)


def with_operations(**declared: object) -> Application:
    return APPLICATION.model_copy(update={"operations": Operations.model_validate(declared)})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("quiet_hours: [8-10]\n", "operations.yaml:1: quiet_hours -> 0: '8-10': 8 is no time between 00:00 and 23:59"),
        ("quiet_hours: ['08:00']\n", "'08:00' is no part of a day: write it as \"08:00-10:00\", in quotes"),
        ("quiet_hours: ['08:00-24:00']\n", "24:00 is no time between 00:00 and 23:59"),
        ("quiet_hours: ['08:00-08:00']\n", "ends when it begins"),
        ("quiet_hours: ['08:00-20:00', '19:00-08:00']\n", "fill the whole day"),
        ("pace: {busy_share: 0}\n", "operations.yaml:1: pace -> busy_share: Input should be greater than 0"),
        ("pace: {bussy_share: 1}\n", "did you mean busy_share?"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "operations.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DeclarationError) as caught:
        load_application(tmp_path)
    assert says in str(caught.value)


def test_a_job_that_cannot_be_is_named_with_the_nearest() -> None:
    with pytest.raises(DeclarationError, match="no job archive_chat_message; did you mean archive_chat_messages"):
        build_definitions(with_operations(heavy_jobs=["archive_chat_message"]))


def test_hours_may_pass_midnight() -> None:
    operations = Operations(quiet_hours=("22:00-01:00", "08:00-10:00"))
    quiet = [hour for hour in range(24) if operations.is_quiet(time(hour))]
    assert quiet == [0, 8, 9, 22, 23]
    assert not operations.is_quiet(time(1))
    assert operations.is_quiet(time(0, 59))


def test_only_heavy_jobs_are_paced_and_more_so_in_quiet_hours() -> None:
    application = with_operations(
        heavy_jobs=[JOB], quiet_hours=["08:00-10:00"], pace={"busy_share": 0.5, "in_quiet_hours": 0.2}
    )
    assert (share_of(application, JOB, FREE), share_of(application, JOB, QUIET)) == (0.5, 0.2)
    assert share_of(application, "record_storage", QUIET) == 1.0
    assert share_of(with_operations(), JOB, QUIET) == 1.0


def evaluated(application: Application, now: datetime, monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether each hourly schedule starts its job at this moment."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # noqa: ARG003 - as datetime's own
            return now

    monkeypatch.setattr(schedules, "datetime", Clock)
    names = [JOB, "refresh_account_segments"]
    return {
        schedule.job_name: bool(
            schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=now)).run_requests
        )
        for schedule in build_schedules(names, application)
    }


def test_a_quiet_hour_skips_the_hourly_start_of_a_heavy_job_only(monkeypatch: pytest.MonkeyPatch) -> None:
    application = with_operations(heavy_jobs=[JOB], quiet_hours=["08:00-10:00"])
    assert evaluated(application, QUIET, monkeypatch) == {JOB: False, "refresh_account_segments": True}
    assert evaluated(application, FREE, monkeypatch) == {JOB: True, "refresh_account_segments": True}
    assert evaluated(with_operations(), QUIET, monkeypatch) == {JOB: True, "refresh_account_segments": True}


def crons(application: Application) -> dict[str, str]:
    names = [job.name for job in build_definitions(application).resolve_all_job_defs()]
    return {schedule.name: str(schedule.cron_schedule) for schedule in build_schedules(names, application)}


def test_a_daily_start_is_put_off_to_the_end_of_the_quiet_hours() -> None:
    heavy = ["archive_chat_messages", "erase_personal_data", JOB]
    declared, as_they_were = with_operations(heavy_jobs=heavy, quiet_hours=["03:00-05:30"]), crons(with_operations())
    moved = {name: cron for name, cron in crons(declared).items() if cron != as_they_were[name]}
    assert moved == {"archive_chat_messages_daily": "40 5 * * *", "erase_personal_data_daily": "10 6 * * *"}


def test_the_shipped_quiet_hours_put_off_nothing_that_waits_a_day_for_it() -> None:
    assert crons(APPLICATION) == crons(with_operations())


class Timed:
    """A clock that work moves on by a second, and the pauses it asked for."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, list[float]()

    def pacing(self, share: Callable[[], float]) -> Pacing:
        return Pacing(share, sleep=self.pauses.append, clock=lambda: self.now)


def test_work_is_at_most_its_share_of_the_time() -> None:
    timed = Timed()
    shares = iter([0.5, 0.2, 1.0, 0.01])
    pacing = timed.pacing(lambda: next(shares))
    for _ in range(3):
        with pacing.work():
            timed.now += 1
    with pacing.work(longest_rest=60):
        timed.now += 1
    assert timed.pauses == pytest.approx([1.0, 4.0, 60.0])
    with pytest.raises(ValueError, match="broke"), timed.pacing(lambda: 0.5).work():
        raise ValueError("broke")
    assert len(timed.pauses) == 3


@pytest.mark.one_server
def test_an_archive_sleeps_between_batches_and_holds_no_row_meanwhile(
    make_application_db: MakeApplicationDb, now: datetime
) -> None:
    url, held = make_application_db(migrated=True), list[int]()
    locks = (
        "select count(*) from pg_locks l join pg_class c on c.oid = l.relation"
        " where c.relname like 'chat_messages%%' and l.mode <> 'AccessShareLock' and l.pid = %s"
    )
    with connect(url) as conn, connect(url) as claims, connect(url) as looking:

        def sleep(_: float) -> None:
            held.append(value(looking, locks, (conn.info.backend_pid,)))

        run = archive_rows(
            conn,
            claims,
            CHAT,
            now=now,
            pace=SMALL_BATCHES,
            pacing=Pacing(lambda: 0.5, sleep=sleep),
        )
    assert run.batches > 2
    assert held == [0] * run.batches
