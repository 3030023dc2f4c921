"""Connections, URLs, polite locking, one operation at a time."""

import time

import psycopg
import pytest

from lifecycle.database import (
    connect,
    connect_directly,
    libpq_url,
    operation_lock,
    politely,
    rows,
    run_all,
    sqlalchemy_url,
    value,
    without_statement_timeout,
)
from lifecycle.errors import AlreadyRunningError, BusyError, LifecycleError
from lifecycle.locks import LockPolicy

QUICK = LockPolicy(timeout=0.02, tries=3, first_pause=0.5, longest_pause=0.6)


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://ann:p%40ss@db.example:6543/app?sslmode=require",
        "postgres://ann:p%40ss@db.example:6543/app?sslmode=require",
        "postgresql+psycopg://ann:p%40ss@db.example:6543/app?sslmode=require",
    ],
)
def test_urls_of_either_dialect(given: str) -> None:
    expected = "ann:p%40ss@db.example:6543/app?sslmode=require"
    if not given.startswith("postgres:"):
        assert libpq_url(given) == f"postgresql://{expected}"
        assert sqlalchemy_url(given) == f"postgresql+psycopg://{expected}"
    else:
        assert libpq_url(given) == f"postgresql://{expected}"


@pytest.mark.parametrize("wrong", ["", "nonsense", "mysql://ann:secret@db.example/app"])
def test_a_wrong_url_says_what_is_expected_and_no_password(wrong: str) -> None:
    with pytest.raises(LifecycleError, match="postgresql") as caught:
        connect(wrong)
    assert "secret" not in str(caught.value)


# `client_encoding` is the driver's; the isolation of the last transaction is shown here, and ended with it.
SESSION_SETTINGS = """
select array(select name::text from pg_settings where source = 'session'
               and name not in ('client_encoding', 'transaction_isolation'))
"""


def test_a_connection_leaves_no_setting_behind(empty_application_db: str) -> None:
    with connect(empty_application_db, application_name="a test") as conn:
        assert conn.autocommit
        assert conn.prepare_threshold is None
        assert value(conn, SESSION_SETTINGS) == []
        with without_statement_timeout(conn):
            assert value(conn, "select current_setting('statement_timeout')") == "0"
        assert value(conn, SESSION_SETTINGS) == []
        assert value(conn, "select current_setting('application_name')") == "a test"
    with connect(f"{empty_application_db}?application_name=theirs", autocommit=False) as conn:
        assert not conn.autocommit
        assert value(conn, "select current_setting('application_name')") == "theirs"


def test_a_direct_session_bears_long_statements(empty_application_db: str) -> None:
    with connect_directly(empty_application_db, application_name="a test") as conn:
        for setting, wanted in (
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("timezone", "UTC"),
            ("client_connection_check_interval", "1s"),
            ("application_name", "a test"),
        ):
            assert value(conn, "select current_setting(%s)", (setting,)) == wanted


def test_rows_value_and_run_all(empty_application_db: str) -> None:
    with connect(empty_application_db) as conn:
        assert rows(conn, "select n from generate_series(1, %s) n", (2,)) == [(1,), (2,)]
        assert value(conn, "select 1 where false") is None
        run_all(conn, ["create temp table t (n int)", "insert into t values (1)"])
        run_all(conn, [])
        assert value(conn, "select n from t") == 1


def test_polite_work_is_done_once_the_lock_is_free(empty_application_db: str) -> None:
    pauses: list[float] = []
    with psycopg.connect(empty_application_db) as holder, connect(empty_application_db) as conn:
        holder.execute("lock table accounts")

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                holder.rollback()

        def locked_under() -> str:
            conn.execute("lock table accounts")
            return str(value(conn, "select current_setting('lock_timeout')"))

        result, milliseconds = politely(
            conn, locked_under, what="a test", relation="public.accounts", locks=QUICK, sleep=pause
        )
        assert result == "20ms"
        assert milliseconds < 5000
        assert value(conn, "select current_setting('lock_timeout')") == "0"
    assert 0.25 <= pauses[0] <= 0.5
    assert 0.3 <= pauses[1] <= 0.6


def test_polite_work_gives_up_and_names_who_is_in_the_way(empty_application_db: str) -> None:
    pauses: list[float] = []
    with (
        psycopg.connect(empty_application_db, application_name="slow report") as holder,
        connect(empty_application_db) as conn,
    ):
        holder.execute("lock table accounts")
        with pytest.raises(BusyError) as caught:
            politely(
                conn,
                lambda: conn.execute("alter table accounts add column more int"),
                what="adding a column",
                relation="public.accounts",
                locks=QUICK,
                sleep=pauses.append,
            )
        message = str(caught.value)
        assert message.startswith("adding a column: no lock on public.accounts within 20 ms in 3 tries")
        assert f"pid {holder.info.backend_pid} (postgres, slow report, open for" in message
        assert "Nothing was changed" in message
        assert len(pauses) == 2
        assert not conn.info.transaction_status


def test_other_errors_of_polite_work_are_not_tried_again(empty_application_db: str) -> None:
    with connect(empty_application_db) as conn, pytest.raises(psycopg.errors.UndefinedTable):
        politely(
            conn,
            lambda: conn.execute("lock table no_such_table"),
            what="a test",
            relation="no_such_table",
            sleep=lambda _seconds: pytest.fail("tried again"),
        )


def test_one_session_at_a_time_runs_an_operation(empty_application_db: str) -> None:
    with connect(empty_application_db) as one, connect(empty_application_db) as other:
        with operation_lock(one, "tidy"):
            with (
                pytest.raises(AlreadyRunningError, match=f"tidy already runs.*pid {one.info.backend_pid}"),
                operation_lock(other, "tidy"),
            ):
                pytest.fail("both ran")
            with operation_lock(other, "something else"):
                pass
        with operation_lock(other, "tidy"):
            pass
        with pytest.raises(ZeroDivisionError), operation_lock(one, "tidy"):
            raise ZeroDivisionError
        with operation_lock(other, "tidy"):
            pass


def test_a_dead_session_gives_the_operation_free(empty_application_db: str) -> None:
    with connect(empty_application_db) as other:
        with connect(empty_application_db) as one, operation_lock(one, "tidy"):
            pid = one.info.backend_pid
            one.close()
        while value(other, "select count(*) from pg_stat_activity where pid = %s", (pid,)):
            time.sleep(0.01)
        with operation_lock(other, "tidy"):
            pass
