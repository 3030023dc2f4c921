"""The archive under traffic: changes while a batch is compressed or moved, two workers, a column that appears."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
import pytest

from lifecycle.archive import read_ahead
from lifecycle.archive.pace import PACE
from lifecycle.database import connect, rows, value
from tests.archived import CHAT, archive, archived, due, live, make_session, restore, say
from tests.conftest import MakeApplicationDb

pytestmark = pytest.mark.one_server


@pytest.fixture
def db(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def while_packing(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> list[object]:
    """Do something once a batch was read and before it is moved; a list that will hold its result."""
    original = read_ahead.pack
    done: list[object] = []

    def pack(text: bytes) -> object:
        if not done:
            done.append(work())
        return original(text)

    monkeypatch.setattr(read_ahead, "pack", pack)
    return done


def test_changes_while_a_batch_is_compressed(db: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was changed moves later with its new text, what was deleted is gone, what is held waits."""
    old = now - timedelta(days=100)
    with connect(db) as conn, psycopg.connect(db) as holder, psycopg.connect(db) as leaving:
        conn.execute("set timezone = 'UTC'")
        session, _ = make_session(conn)
        held_session, _ = make_session(conn)
        changed, deleted, held, younger, plain, column = (say(conn, session, text, old) for text in "abcdef")
        orphan = say(conn, held_session, "its session is being deleted", old)

        def interfere() -> None:
            conn.execute("update chat_messages set content = 'changed' where id = %s", (changed,))
            conn.execute("delete from chat_messages where id = %s", (deleted,))
            conn.execute("update chat_messages set created_at = %s where id = %s", (now, younger))
            conn.execute("update chat_messages set latency_ms = 99 where id = %s", (column,))
            holder.execute("update chat_messages set content = 'held' where id = %s", (held,))
            leaving.execute("delete from chat_sessions where id = %s", (held_session,))

        while_packing(monkeypatch, interfere)
        run = archive(db, now, PACE)
        assert set(archived(conn)) == {plain, column}
        assert archived(conn)[column][1]["latency_ms"] == 99
        assert (run.moved, run.left) == (2, 5)
        holder.commit()
        leaving.rollback()
        assert archive(db, now).moved == 3
        found = archived(conn)
        assert set(found) == {plain, column, changed, held, orphan}
        assert (found[changed][-1], found[held][-1]) == ("changed", "held")
        assert set(live(conn)) == {younger}


def test_no_table_is_locked_while_a_batch_is_compressed(
    db: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for an ALTER TABLE, which everybody else would then wait for; and VACUUM is not held back."""
    with connect(db) as conn, connect(db) as other:
        session, _ = make_session(conn)
        say(conn, session, "text", now - timedelta(days=100))

        def alter() -> object:
            other.execute("set lock_timeout = '100ms'")
            other.execute("alter table chat_messages alter column content set storage external")
            return value(
                other, "select count(*) from pg_stat_activity where state like 'idle in%' and backend_xmin is not null"
            )

        done = while_packing(monkeypatch, alter)
        assert archive(db, now).moved == 1
        assert done == [0]


def test_two_workers_share_the_days(make_application_db: MakeApplicationDb, now: datetime) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        expected = due(conn, now)
        both = threading.Barrier(2)
        runs = []

        def work() -> None:
            both.wait(20)
            runs.append(archive(url, now, replace(PACE, batch_size=20)))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert archived(conn) == expected
        assert sum(run.moved for run in runs) == len(expected)
        assert not due(conn, now)


def test_a_claimed_day_is_left_to_its_worker(db: str, now: datetime) -> None:
    with connect(db) as conn, psycopg.connect(db) as worker:
        conn.execute("set timezone = 'UTC'")
        session, _ = make_session(conn)
        day = (now - timedelta(days=100)).replace(hour=0, minute=0, second=0, microsecond=0)
        say(conn, session, "claimed", day)
        free = {say(conn, session, "free", day + timedelta(days=1)), say(conn, session, "older", day - timedelta(1))}
        worker.execute("set timezone = 'UTC'")
        key = worker.execute("select date_trunc('day', %s::timestamptz, 'UTC')::text", (day,)).fetchone()
        worker.execute(read_ahead.CLAIM.encode(), ([key and key[0]], str(CHAT.declared.archive)))
        run = archive(db, now)
        assert set(archived(conn)) == free
        assert (run.busy_days, run.remaining) == (1, 1)
        worker.rollback()
        assert archive(db, now).moved == 1


def test_a_session_that_is_restored_between_packing_and_moving_stays(
    db: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of it was in the batch is left, and nothing of another session is."""
    with connect(db) as conn, connect(db) as person:
        session, _ = make_session(conn)
        other, _ = make_session(conn)
        say(conn, session, "archived yesterday", now - timedelta(days=101))
        archive(db, now)
        say(conn, session, "in the batch", now - timedelta(days=100))
        moved = say(conn, other, "other", now - timedelta(days=100))
        done = while_packing(monkeypatch, lambda: restore(person, session, now).restored)
        run = archive(db, now)
        assert done == [1]
        assert set(archived(conn)) == {moved}
        assert {message[-1] for message in live(conn).values()} == {"archived yesterday", "in the batch"}
        assert (run.moved, run.left, run.remaining) == (1, 1, 0)


@pytest.mark.every_version
def test_a_column_that_appears_between_reading_and_moving_is_taken_along(
    make_application_db: MakeApplicationDb, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a run, with a value in rows that were read before; and one that goes away again."""
    url = make_application_db(migrated=True)
    with connect(url) as conn, connect(url) as person:
        conn.execute("set timezone = 'UTC'")
        before = value(conn, "select count(*) from chat_messages")
        original, calls = read_ahead.pack, []

        def pack(text: bytes) -> object:
            calls.append(1)
            if len(calls) == 150:
                person.execute("alter table chat_messages add column language text not null default 'ja'")
                person.execute("update chat_messages set language = 'en' where role = 'user'")
            if len(calls) == 350:
                person.execute("alter table chat_messages drop column latency_ms cascade")
            return original(text)

        monkeypatch.setattr(read_ahead, "pack", pack)
        old = dict(rows(conn, "select id, latency_ms from chat_messages"))
        expected = set(due(conn, now))
        run = archive(url, now)
        found = rows(conn, "select id, role, language, latency_ms, archived_at from chat_messages_archive")
        assert {row[0] for row in found} == expected
        assert (run.moved, run.remaining) == (len(expected), 0)
        assert {(role, language) for _, role, language, *_ in found} >= {("user", "en"), ("assistant", "ja")}
        kept = [row for row in found if row[3] is not None]
        assert 0 < len(kept) < sum(latency is not None for latency in old.values())
        assert all(old[row[0]] == row[3] for row in kept)
        assert value(conn, "select count(*) from chat_messages_recent where language in ('ja', 'en')") > 0
        for (session,) in rows(conn, "select distinct session_id from chat_messages_archive"):
            restore(conn, session, now)
        assert value(conn, "select count(*) from chat_messages where language in ('ja', 'en')") == before


def test_traffic_during_a_run_is_neither_lost_nor_doubled(
    make_application_db: MakeApplicationDb, now: datetime
) -> None:
    """People write, change and delete old and new messages while two workers move: each row is in one place."""
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        ids = sorted(live(conn))
        deleted, changed, added = set(ids[::17]), set(ids[5::17]), []
        session, _ = make_session(conn)

        def people() -> None:
            with connect(url) as person:
                for number, message in enumerate(ids):
                    if message in deleted:
                        person.execute("delete from chat_messages where id = %s", (message,))
                        person.execute("delete from chat_messages_archive where id = %s", (message,))
                    elif message in changed:
                        person.execute("update chat_messages set content = 'edited' where id = %s", (message,))
                    elif number % 50 == 0:
                        added.append(say(person, session, "new", now - timedelta(days=number % 200)))

        threads = [
            threading.Thread(target=people),
            *(threading.Thread(target=archive, args=(url, now, replace(PACE, batch_size=20))) for _ in range(2)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        archive(url, now)
        here, there = live(conn), archived(conn)
        assert not set(here) & set(there)
        assert set(here) | set(there) == {*ids, *added} - deleted
        assert not due(conn, now)
