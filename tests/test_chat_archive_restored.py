"""The way back from the archive: a session returns and stays; nothing damaged or of somebody else's returns."""

from datetime import datetime, timedelta

import pytest

from lifecycle.archive.conversation import read_group
from lifecycle.archive.pace import PACE
from lifecycle.archive.status import overdue_rows, sample_archive
from lifecycle.database import connect, value
from lifecycle.errors import RefusedError, VerificationError
from tests.archived import LONG, archive, archived, layout_of, live, make_session, restore, say
from tests.conftest import MakeApplicationDb

pytestmark = pytest.mark.one_server


@pytest.fixture
def db(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def test_an_id_that_the_archive_holds_already_is_overwritten_by_nobody(db: str, now: datetime) -> None:
    """The id of an archived message can be used again, also by somebody else, who must not reach the first."""
    with connect(db) as conn:
        first, _ = make_session(conn)
        second, _ = make_session(conn)
        said = say(conn, first, "first", now - timedelta(days=100))
        archive(db, now)
        conn.execute(
            "insert into chat_messages (id, session_id, role, content, created_at, sequence)"
            " values (%s, %s, 'user', 'second', %s, 1)",
            (said, second, now - timedelta(days=100)),
        )
        assert (archive(db, now).left, overdue_rows(conn, layout_of(conn), now)) == (1, 1)
        assert archived(conn)[said][-1] == "first"
        assert live(conn)[said][-1] == "second"
        restored = restore(conn, first, now)
        assert (restored.restored, restored.left) == (0, 1)


def test_a_session_comes_back_and_stays(db: str, now: datetime) -> None:
    with connect(db) as conn:
        conn.execute("set timezone = 'UTC'")
        session, _ = make_session(conn)
        other, _ = make_session(conn)
        old = now - timedelta(days=100)
        for text in ("こんにちは 🦖", ""):
            say(conn, session, text, old)
        say(conn, session, "young", now)
        say(conn, other, "other", old)
        before = live(conn)
        archive(db, now)
        talk = [(entry.shown[1], entry.archived) for entry in read_group(conn, layout_of(conn), str(session))]
        assert sorted(talk[:2]) == [("", True), ("こんにちは 🦖", True)]
        assert talk[2:] == [("young", False)]

        restored = restore(conn, session, now)
        assert (restored.restored, restored.until) == (2, now + PACE.restored_for)
        assert {i: m for i, m in before.items() if m[0] == session} == live(conn)
        assert archive(db, now).moved == 0
        assert overdue_rows(conn, layout_of(conn), now + timedelta(days=20)) == 0
        later = restored.until + timedelta(seconds=1)
        assert overdue_rows(conn, layout_of(conn), later) == 2
        assert archive(db, later).moved == 2

        conn.execute("delete from chat_sessions where id = %s", (session,))
        assert value(conn, "select count(*) from lifecycle.restored_groups") == 0
        assert [message[-1] for message in archived(conn).values()] == ["other"]
        with pytest.raises(RefusedError, match="there is no row"):
            read_group(conn, layout_of(conn), str(session))
        with pytest.raises(RefusedError, match="is no key"):
            read_group(conn, layout_of(conn), "no uuid")


@pytest.mark.parametrize(
    "damage", ["content_gzip = '\\x00'", "content_sha256 = sha256('')", "content = 'x', content_gzip = null"]
)
def test_a_damaged_text_is_found_and_never_restored(db: str, now: datetime, damage: str) -> None:
    with connect(db) as conn:
        session, _ = make_session(conn)
        for text in "abc":
            say(conn, session, text + LONG, now - timedelta(days=100))
        archive(db, now)
        assert sample_archive(conn, layout_of(conn), 50).damaged == 0
        conn.execute(f"update chat_messages_archive set {damage}".encode())
        sample = sample_archive(conn, layout_of(conn), 50)
        assert 0 < sample.damaged == sample.read
        with pytest.raises(VerificationError):
            restore(conn, session, now)
        assert not live(conn)
        assert value(conn, "select count(*) from lifecycle.restored_groups") == 0
