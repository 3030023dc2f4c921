"""Connections, polite locking and the facts about a database that every operation asks for."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from lifecycle.errors import AlreadyRunningError, BusyError, LifecycleError, RefusedError
from lifecycle.locks import LOCKS, LockPolicy

Connection = psycopg.Connection[tuple[Any, ...]]
Result = TypeVar("Result")

SESSION_SETTINGS = (
    # Rows that a policy hides from us would be missing from the copies; this makes it an error.
    "set row_security = off",
    # Replay must see what was committed before its locks, not before its transaction.
    "set default_transaction_isolation = 'read committed'",
    "set idle_session_timeout = 0",
    "set default_tablespace = ''",
    "set standard_conforming_strings = on",
    # A hosted role's statement_timeout would cut a long copy in half.
    "set statement_timeout = 0",
    "set idle_in_transaction_session_timeout = 0",
    # Bounds of partitions are months in UTC, whatever the server's zone.
    "set timezone = 'UTC'",
)
# The server notices a killed client while it still runs that client's statement, so a rerun need not wait.
NOTICE_DEAD_CLIENT = "set client_connection_check_interval = '1s'"

LOCK_HOLDERS = """
select distinct on (a.xact_start, a.pid) format('pid %%s (%%s, %%s, open for %%s)',
              a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'unnamed'),
              date_trunc('second', clock_timestamp() - a.xact_start))
  from pg_locks l join pg_stat_activity a using (pid)
 where l.relation = any (array(select to_regclass(n) from unnest(%s::text[]) n)) and l.granted
   and a.pid <> pg_backend_pid() and a.datname = current_database()
 order by a.xact_start, a.pid limit 3
"""


def libpq_url(url: str) -> str:
    """A SQLAlchemy or libpq URL as a libpq URL; LifecycleError, which quotes nothing of it, when it is neither."""
    if url.count("@") > 1:
        # What follows the first one would be taken for the host, and told as such by whoever looks for it.
        raise LifecycleError("the database URL holds more than one @: in a password, an @ is written %40, a % is %25")
    try:
        parsed: URL = make_url(url)
    except Exception:
        raise LifecycleError(
            "the database URL cannot be parsed; expected postgresql://user:password@host:5432/database"
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise LifecycleError(f"the database URL names {parsed.get_backend_name()!r}; only postgresql is supported")
    return parsed.set(drivername="postgresql").render_as_string(hide_password=False)


def sqlalchemy_url(url: str) -> str:
    """The same URL for SQLAlchemy with psycopg 3."""
    return make_url(libpq_url(url)).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def connect(url: str, *, application_name: str = "lifecycle", autocommit: bool = True) -> Connection:
    """Open a connection that any pooler bears: no prepared statements, no lasting settings.

    A setting made through a transaction pooler would stay behind for the application's next statement. Raises
    psycopg.OperationalError when the server cannot be reached and LifecycleError when the URL is no PostgreSQL URL.
    """
    conninfo = libpq_url(url)
    name = conninfo_to_dict(conninfo).get("application_name") or application_name
    conn = psycopg.connect(
        conninfo,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=15,
        application_name=name,
        client_encoding="utf8",
    )
    if not (conn.info.parameter_status("DateStyle") or "ISO").startswith("ISO"):
        # The driver reads timestamps in no other style. Poolers keep this setting, unlike others, with the client.
        conn.execute("set datestyle = 'ISO, YMD'")
    conn.autocommit = autocommit
    return conn


def connect_directly(url: str, *, application_name: str) -> Connection:
    """Open a session for long work: own settings, session locks. RefusedError behind a transaction pooler."""
    conn = connect(url, application_name=application_name)
    if goes_through_transaction_pooler(conn):
        conn.close()
        raise RefusedError(
            f"{application_name}: the connection goes through a transaction pooler, which keeps no session. Use the "
            "direct connection or the session pooler (on Supabase port 5432, not 6543) in LIFECYCLE_DATABASE_URL"
        )
    for statement in SESSION_SETTINGS:
        conn.execute(statement.encode())
    # Where the server's platform cannot watch its clients, a killed run is noticed later.
    with suppress(psycopg.errors.InvalidParameterValue):
        conn.execute(NOTICE_DEAD_CLIENT.encode())
    with suppress(psycopg.errors.UndefinedObject):
        conn.execute("set transaction_timeout = 0")  # new in PostgreSQL 17
    return conn


def goes_through_transaction_pooler(conn: Connection) -> bool:
    """Whether two sessions share a server process, or one session wanders between several.

    A quiet pooler in transaction mode looks like a session to one client alone, so a second one asks too.
    """
    pid = "select pg_backend_pid()"
    with psycopg.connect(conn.info.dsn, password=conn.info.password, autocommit=True, prepare_threshold=None) as other:
        seen = [(value(conn, pid), value(other, pid)) for _ in range(3)]
    ours, theirs = {pair[0] for pair in seen}, {pair[1] for pair in seen}
    return len(ours) > 1 or len(theirs) > 1 or bool(ours & theirs)


@contextmanager
def without_statement_timeout(conn: Connection) -> Iterator[None]:
    """One transaction at READ COMMITTED that a hosted role's statement_timeout does not cut off."""
    with conn.transaction():
        conn.execute("set transaction isolation level read committed")
        conn.execute("set local statement_timeout = 0")
        yield


def rows(conn: Connection, query: str, params: Sequence[Any] | dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """All rows of a constant query."""
    return conn.execute(query.encode(), params).fetchall()


def value(conn: Connection, query: str, params: Sequence[Any] | dict[str, Any] | None = None) -> Any:
    """The first column of the first row, or None."""
    row = conn.execute(query.encode(), params).fetchone()
    return row[0] if row else None


def run_all(conn: Connection, statements: Sequence[str | sql.Composable]) -> None:
    """Send statements as one message: under a lock, round trips to a far server would be a stall."""
    text = ";\n".join(s if isinstance(s, str) else s.as_string(conn) for s in statements)
    if text:
        conn.execute(text.encode())


def politely(
    conn: Connection,
    work: Callable[[], Result],
    *,
    what: str,
    relation: str,
    also: Sequence[str] = (),
    before_try: Callable[[], None] = lambda: None,
    locks: LockPolicy = LOCKS,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Result, float]:
    """Run `work` in one short transaction under a lock timeout, again and again until the locks were free.

    `before_try` runs before each try, outside of its transaction; `also` names further relations that `work` locks.
    Returns its result and the milliseconds the successful transaction took. Raises BusyError, naming
    `what`, `relation` and the sessions in the way, once all tries are used up.
    """
    pause = locks.first_pause
    for attempt in range(1, locks.tries + 1):
        before_try()
        started = time.perf_counter()
        try:
            with conn.transaction():
                conn.execute("select set_config('lock_timeout', %s, true)", (f"{round(locks.timeout * 1000)}ms",))
                result = work()
            return result, (time.perf_counter() - started) * 1000
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if attempt == locks.tries:
                holders = ", ".join(row[0] for row in rows(conn, LOCK_HOLDERS, ([relation, *also],)))
                raise BusyError(
                    f"{what}: no lock on {relation} within {locks.timeout * 1000:.0f} ms in {attempt} tries; "
                    f"in the way: {holders or 'sessions that have ended since'}. Nothing was changed by this step. "
                    "End the long transaction or wait for it, then run this again."
                ) from error
            sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the tries, no secret
            pause = min(pause * 1.3, locks.longest_pause)
    raise AssertionError("unreachable: the last try returns or raises")


@contextmanager
def operation_lock(conn: Connection, operation: str) -> Iterator[None]:
    """Let one session at a time run `operation` in this database; AlreadyRunningError names the other."""
    key = f"lifecycle.{operation}"
    if not value(conn, "select pg_try_advisory_lock(hashtextextended(%s, 0))", (key,)):
        other = value(
            conn,
            """select string_agg(l.pid::text, ', ') from pg_locks l
                where l.locktype = 'advisory' and l.granted and l.objsubid = 1
                  and l.database = (select oid from pg_database where datname = current_database())
                  and ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended(%s, 0)""",
            (key,),
        )
        raise AlreadyRunningError(
            f"{operation} already runs in this database (pid {other or 'unknown'}); "
            "wait for it, or end that session with pg_terminate_backend, then run this again"
        )
    try:
        yield
    finally:
        if conn.info.transaction_status is TransactionStatus.IDLE:
            conn.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (key,))
        else:
            conn.close()  # interrupted in the middle of a statement: only the session's end gives the lock back
