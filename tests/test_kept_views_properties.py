"""Random sequences of writes, refreshes and migrations of the application: kept views say what definitions say."""

import random
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.database import Connection, connect, rows, value
from lifecycle.migrating.migrate import upgrade
from sandbox.application import apply_december
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.kept import A_MESSAGE, differences, refresh

AGES = [timedelta(minutes=10), timedelta(hours=3), timedelta(days=1), timedelta(days=40), timedelta(days=89),
        timedelta(days=91), timedelta(days=200), timedelta(days=-2)]  # fmt: skip
# %(a)s and %(b)s: two accounts; %(s)s and %(t)s: two sessions; %(at)s: a moment.
WRITES = {
    "a session": "insert into chat_sessions (account_id, started_at, last_activity_at, metadata) values"
    ' (%(a)s, %(at)s, %(at)s, \'{"metrics": {"totalTokens": 5}}\')',
    "a message moves": "update chat_messages set session_id = %(t)s, sequence = sequence + 1000000 where id ="
    " (select id from chat_messages where session_id = %(s)s order by id limit 1)",
    "messages are corrected": "update chat_messages set latency_ms = latency_ms + 1000, role = 'assistant'"
    " where session_id = %(s)s",
    "messages are dated back": "update chat_messages set created_at = %(at)s where session_id = %(s)s",
    "messages go": "delete from chat_messages where id in"
    " (select id from chat_messages where session_id = %(s)s order by id limit 2)",
    "recent messages go": "delete from chat_messages where id in"
    " (select id from chat_messages order by created_at desc, id limit 2)",
    "a session goes": "delete from chat_sessions where id = %(s)s",
    "a session moves": "update chat_sessions set account_id = %(b)s where id = %(s)s",
    "a session is dated back": "update chat_sessions set started_at = %(at)s where id = %(s)s",
    "a session goes on": "update chat_sessions set last_activity_at = now(), metadata = '{\"errors\": [1]}'"
    " where id = %(s)s",
    "an event": "insert into user_behavior_events (account_id, session_id, event_timestamp, page_url)"
    " values (%(a)s, 'visit', %(at)s, '/x')",
    "events are scrubbed": "update user_behavior_events set account_id = null, session_id = 'erased'"
    " where account_id = %(a)s",
    "an account goes": "delete from accounts where id = %(a)s",
    "a search": "insert into search_queries (account_id, search_query, searched_at, search_source, results_count)"
    " values (%(a)s, 'same', %(at)s, 'chat', 3)",
    "a search is corrected": "update search_queries set search_query = 'moved' where account_id = %(a)s",
    "searches are emptied": "truncate search_queries cascade",
    "a column is added": "alter table chat_sessions add column if not exists mood text",
    "a column is added and goes": "alter table chat_messages add column spare int;"
    " alter table chat_messages drop column spare",
}
STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["a message", *WRITES]), min_size=1, max_size=4),
        st.sampled_from(["refresh", "refresh", "refresh", "migrate", "function"]),
    ),
    min_size=2,
    max_size=6,
)


def write(conn: Connection, what: str, chance: random.Random) -> None:
    accounts, sessions = (
        [found for (found,) in rows(conn, query)]
        for query in ("select id from accounts order by id", "select id from chat_sessions order by id")
    )
    at = datetime.now(UTC) - chance.choice(AGES)
    if not accounts or not sessions:
        return
    names = {"a": chance.choice(accounts), "b": chance.choice(accounts), "s": chance.choice(sessions),
             "t": chance.choice(sessions), "at": at}  # fmt: skip
    if what == "a message":
        conn.execute(A_MESSAGE, (at, names["s"]))
        return
    for statement in WRITES[what].split("; "):
        conn.execute(statement.encode(), names)


@pytest.mark.every_version
@pytest.mark.one_server
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, seed=st.integers(0, 2**20))
def test_kept_equals_definition_whatever_happens(
    make_application_db: MakeApplicationDb, steps: list[tuple[list[str], str]], seed: int
) -> None:
    url, chance = make_application_db(migrated=True), random.Random(seed)
    with connect(url) as conn:
        for writes, then in steps:
            for what in writes:
                write(conn, what, chance)
            if then == "migrate":
                conn.execute("delete from lifecycle.migrated_declarations")
                upgrade(url, APPLICATION)
            with conn.transaction():
                conn.execute("set local timezone = 'UTC'")
                if then == "function":
                    conn.execute("update lifecycle.kept_views set refreshed_at = refreshed_at - interval '2 hours'")
                    # A view that is computed whole is due when it may take its share of the time again.
                    conn.execute("update lifecycle.kept_views set definition_ms = 0")
                    failed = "select name, error from refresh_derived_statistics() where outcome = 'failure'"
                    assert rows(conn, failed) == []
                else:
                    refresh(conn)
                assert differences(conn) == {}, (writes, then)


@pytest.mark.every_version
@pytest.mark.one_server
@pytest.mark.parametrize("before", ["notes", "nothing"])
def test_the_migrations_of_december(make_application_db: MakeApplicationDb, before: str) -> None:
    """They drop, replace and rename what kept views read; afterwards each is kept again or named."""
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        refresh(conn)
        if before == "notes":
            write(conn, "messages are corrected", random.Random(1))
        apply_december(url)
        gone = "select name, error from refresh_derived_statistics() where outcome = 'failure'"
        for _, error in rows(conn, gone):
            assert "replaced view" in error or "is gone" in error
        conn.execute("delete from lifecycle.migrated_declarations")
        said = "\n".join(upgrade(url, APPLICATION).changes)
        assert "stays as it is" not in said
        kept = {name for (name,) in rows(conn, "select view_name from lifecycle.kept_views")}
        for name, view in APPLICATION.views.kept.items():
            there = value(conn, "select to_regclass(%s) is not null", (str(name),))
            assert not there or name.name in kept, name
            assert there or view.optional, name
        with conn.transaction():
            conn.execute("set local timezone = 'UTC'")
            refresh(conn)
            assert differences(conn) == {}
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("select * from refresh_derived_statistics('no_such_view')")
