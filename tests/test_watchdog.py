"""The address outside hears of each daily success once, of nothing else, and its secret stays one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import dagster as dg
import pytest

from lifecycle.database import connect
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from resources.watchdog import Watchdog
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.test_maintenance import FAIL

pytestmark = pytest.mark.one_server
SECRET = "/ping/secret-of-the-watchdog"  # noqa: S105


@dataclass
class Outside:
    """A web server that expects to be called."""

    answer: int = 200
    heard: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def listening() -> Iterator[Outside]:
    outside = Outside()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            outside.heard.append(self.path)
            self.send_response(outside.answer)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    outside.url = f"http://127.0.0.1:{server.server_port}{SECRET}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield outside
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def outside() -> Iterator[Outside]:
    with listening() as server:
        yield server


def look(instance: dg.DagsterInstance, url: str, cursor: str | None) -> tuple[str | None, str]:
    """One tick: the cursor afterwards, and what it says."""
    definitions = build_definitions(APPLICATION)
    (sensor,) = [sensor for sensor in definitions.sensors or () if sensor.name == "watchdog"]
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        resources={"watchdog": Watchdog(url=url)},
        repository_def=definitions.get_repository_def(),
    ) as context:
        ticked = sensor.evaluate_tick(context)
        return ticked.cursor, ticked.skip_message or ""


def test_each_success_is_told_once_and_a_failure_never(
    make_application_db: MakeApplicationDb, instance: dg.DagsterInstance, outside: Outside
) -> None:
    url = make_application_db(rows=False, migrated=True)
    job = build_definitions(APPLICATION, database=ApplicationDatabase(url=url)).resolve_job_def("run_daily_maintenance")
    cursor, _ = look(instance, outside.url, None)
    assert outside.heard == []
    for told in (1, 2):
        assert job.execute_in_process(instance=instance).success
        for _ in range(2):
            cursor, _ = look(instance, outside.url, cursor)
            assert outside.heard == [SECRET] * told
    with connect(url) as conn:
        conn.execute(FAIL)
    assert not job.execute_in_process(instance=instance, raise_on_error=False).success
    assert look(instance, outside.url, cursor)[0] == cursor
    assert outside.heard == [SECRET] * 2


def test_what_could_not_be_told_is_told_at_the_next_look(
    make_application_db: MakeApplicationDb, instance: dg.DagsterInstance, outside: Outside
) -> None:
    url = make_application_db(rows=False, migrated=True)
    job = build_definitions(APPLICATION, database=ApplicationDatabase(url=url)).resolve_job_def("run_daily_maintenance")
    assert job.execute_in_process(instance=instance).success
    with pytest.MonkeyPatch.context() as later:
        # A day later it says nothing of today.
        later.setattr("sensors.watchdog.RECENT", timedelta())
        assert "no success" in look(instance, outside.url, None)[1]
    with listening() as gone:
        """Its port is free afterwards."""
    assert "ConnectionRefused" in look(instance, gone.url, None)[1]
    outside.answer = 503
    cursor, said = look(instance, outside.url, None)
    assert "answered 503" in said
    assert not cursor
    assert SECRET not in said
    outside.answer = 200
    assert "is told" in look(instance, outside.url, cursor)[1]
    assert len(outside.heard) == 2


def test_without_an_address_it_says_which_variable_to_set(instance: dg.DagsterInstance) -> None:
    assert "set LIFECYCLE_WATCHDOG_URL" in look(instance, "", None)[1]
    _, said = look(instance, "file:///etc/passwd", None)
    assert "no success" in said
    with pytest.raises(Exception, match="begins with https"):
        Watchdog(url="file:///etc/passwd").call()
