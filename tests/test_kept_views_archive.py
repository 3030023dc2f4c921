"""Views over rows that move to the archive and come back: no figure changes, and the view is dressed as it was."""

from datetime import UTC, datetime

import pytest

from lifecycle.archive.elsewhere import ArchivedRows
from lifecycle.database import connect, rows, value
from lifecycle.views.archived import archive_layouts, hide_elsewhere, rows_elsewhere, show_elsewhere
from tests.archived import archive, restore
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.kept import CATALOG, definition_of, refresh, refresh_and_compare


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(migrated=True)


def test_what_goes_to_the_archive_and_comes_back_changes_no_figure(url: str) -> None:
    now = datetime.now(UTC)
    views = ("chat_usage_by_account", "session_details", "account_function_usage")
    with connect(url) as conn:
        refresh(conn)
        conn.execute("select refresh_analytics_hourly()")
        conn.execute("select lifecycle.forget_changed_rows()")
        before = {view: sorted(rows(conn, f"select * from {view}"), key=repr) for view in views}
        moved = archive(url, now)
        assert moved.moved > 0
        assert value(conn, "select count(*) from lifecycle.changed_rows") == 0
        refresh_and_compare(conn)
        assert {view: sorted(rows(conn, f"select * from {view}"), key=repr) for view in views} == before
        conn.execute("refresh materialized view concurrently account_function_usage")
        conn.execute("select refresh_chat_analytics()")  # the application's own
        assert {view: sorted(rows(conn, f"select * from {view}"), key=repr) for view in views} == before
        conn.execute("update lifecycle.kept_views set whole_due = 'test'")
        refresh_and_compare(conn)
        assert {view: sorted(rows(conn, f"select * from {view}"), key=repr) for view in views} == before
        session = value(conn, "select session_id from chat_messages_archive order by 1 limit 1")
        restore(conn, session, now)
        refresh_and_compare(conn)
        assert {view: sorted(rows(conn, f"select * from {view}"), key=repr) for view in views} == before


def test_the_materialized_view_over_the_archive_is_dressed_as_it_was(make_application_db: MakeApplicationDb) -> None:
    indexes = "select indexdef from pg_indexes where tablename = 'account_function_usage' order by 1"
    with connect(make_application_db()) as plain, connect(make_application_db(migrated=True)) as conn:
        assert "chat_messages_archive" in definition_of(conn, "account_function_usage")
        assert rows(conn, indexes) == rows(plain, indexes)
        mine, theirs = (
            next(row for row in rows(each, CATALOG) if row[0] == "account_function_usage") for each in (conn, plain)
        )
        assert mine[:-1] == theirs[:-1]
    with connect(make_application_db(migrated=True)) as conn:
        places = rows_elsewhere(conn, APPLICATION)
        (place,) = places
        assert list(hide_elsewhere(conn, place.table, place.relations))
        conn.execute("grant select on account_function_usage to authenticator with grant option")
        conn.execute("revoke all on account_function_usage from anon")  # to whom new relations are open by default
        conn.execute("comment on column account_function_usage.usage_count is 'how often'")
        before = [row for row in rows(conn, CATALOG) if row[0] == "account_function_usage"]
        assert list(show_elsewhere(conn, places))
        assert "chat_messages_archive" in definition_of(conn, "account_function_usage")
        assert [row for row in rows(conn, CATALOG) if row[0] == "account_function_usage"] == before


LATELY = "s.started_at >= (CURRENT_DATE - '{}'::interval)"
JOINED = "public.chat_sessions s JOIN public.chat_messages m ON ((m.session_id = s.id))"


def test_a_view_sees_the_archive_only_where_it_needs_no_text_that_is_packed(
    make_application_db: MakeApplicationDb,
) -> None:
    """Rows of a conversation move 92 days after it began at the earliest; midnights differ by up to a day."""
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        (layout,) = archive_layouts(conn, APPLICATION).values()
    archived, columns = ArchivedRows(layout), ("session_id", "content", "created_at")
    for rows_read, needs in {
        f"{JOINED} WHERE ({LATELY.format('90 days')})": None,
        f"{JOINED} WHERE ({LATELY.format('91 days')})": "content",
        f"{JOINED} WHERE ({LATELY.format('23:00:00')})": None,
        f"{JOINED} WHERE ({LATELY.format('2 mons')})": None,
        f"{JOINED} WHERE ({LATELY.format('3 mons')})": "content",  # of how many days?
        f"{JOINED} WHERE (({LATELY.format('7 days')}) AND (m.role = 'user'::text))": None,
        f"{JOINED} WHERE (({LATELY.format('7 days')}) OR (m.role = 'user'::text))": "content",
        f"{JOINED} WHERE (s.last_activity_at >= (CURRENT_DATE - '7 days'::interval))": "content",
        f"{JOINED} WHERE (m.created_at >= (CURRENT_DATE - '7 days'::interval))": "content",
        f"{JOINED} WHERE (s.started_at <= (CURRENT_DATE - '7 days'::interval))": "content",
        f"public.chat_sessions s CROSS JOIN public.chat_messages m WHERE ({LATELY.format('7 days')})": "content",
        f"{JOINED.replace('s.id', 's.account_id')} WHERE ({LATELY.format('7 days')})": "content",
    }.items():
        text = f"SELECT length(m.content) AS n FROM {rows_read}"
        assert archived.old_text_needed(text, columns) == needs, rows_read
        assert archived.old_text_needed(f"SELECT m.session_id FROM {rows_read}", columns) is None, rows_read
