"""After any error the application's table is as it was, or as the last complete step left it, autovacuum included."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import psycopg
import pytest

from lifecycle.database import Connection, rows, value
from lifecycle.errors import BusyError, LifecycleError, RefusedError, VerificationError
from lifecycle.partitions.plan import plan_conversion
from tests.conftest import MakeApplicationDb
from tests.conversion_load import BEHAVIOUR, CATALOG, FEW_MONTHS, convert, fill, fingerprint, leftovers

# What Python decides; the statements run on both versions in the other files.
pytestmark = pytest.mark.one_server
SWITCHED_OFF: Final = "select count(*) from pg_class where 'autovacuum_enabled=false' = any (reloptions)"
KEY_INDEX: Final = "select to_regclass('user_behavior_events_legacy_pkey') is not null"


@pytest.fixture
def url(make_application_db: MakeApplicationDb, now: datetime) -> str:
    made = make_application_db(rows=False, migrated=True)
    fill(made, BEHAVIOUR, now, count=100, span=FEW_MONTHS)
    return made


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def fail_at(monkeypatch: pytest.MonkeyPatch, step: str, error: Exception, url: str, now: datetime) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(f"lifecycle.partitions.convert.{step}", failing(error))
        with pytest.raises(type(error)):
            convert(url, BEHAVIOUR, now)


@pytest.mark.parametrize("error", [psycopg.errors.InternalError_("no"), RefusedError("no"), RuntimeError("no")])
def test_before_the_attachment_nothing_is_left(
    url: str, conn: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    before = rows(conn, CATALOG)
    fail_at(monkeypatch, "attach_whole", error, url, now)
    assert rows(conn, CATALOG) == before
    assert plan_conversion(conn, BEHAVIOUR, now).state == "ready"
    conn.execute("alter table user_behavior_events set (fillfactor = 71, autovacuum_enabled = false)")
    before = rows(conn, CATALOG)
    fail_at(monkeypatch, "attach_whole", error, url, now)
    assert rows(conn, CATALOG) == before
    # Nothing that the failed runs remembered speaks for the next one.
    conn.execute("alter table user_behavior_events reset (autovacuum_enabled)")
    convert(url, BEHAVIOUR, now)
    assert leftovers(url) == []


def test_what_passes_keeps_the_key_index(
    url: str, conn: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, "attach_whole", BusyError("later"), url, now)
    assert (value(conn, SWITCHED_OFF), value(conn, KEY_INDEX)) == (0, True)
    assert plan_conversion(conn, BEHAVIOUR, now).state == "resumable"


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("switch_dependents", psycopg.errors.InternalError_("no")),
        ("swap_names", LifecycleError("no")),
        ("verify_copies", VerificationError("no")),
        ("exchange", psycopg.errors.InternalError_("no")),
    ],
)
def test_later_the_rows_stay_where_they_are_and_are_vacuumed(
    url: str, conn: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    before = fingerprint(url, BEHAVIOUR)
    fail_at(monkeypatch, step, error, url, now)
    holding = "select c.reloptions from user_behavior_events e join pg_class c on c.oid = e.tableoid group by 1"
    assert [option for (options,) in rows(conn, holding) for option in options or ()] == []
    assert fingerprint(url, BEHAVIOUR) == before
    assert convert(url, BEHAVIOUR, now).outcome == "converted"
    assert (fingerprint(url, BEHAVIOUR), leftovers(url)) == (before, [])
