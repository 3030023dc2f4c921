"""Views that read cold months: no figure changes when a month goes cold, is changed there, or comes back."""

from datetime import timedelta
from pathlib import Path

import pytest

from lifecycle.cold.fill_narrow import months_to_fill
from lifecycle.cold.refreeze import refreeze
from lifecycle.cold.restore import restore_month
from lifecycle.cold.sweep import retire_expired
from lifecycle.cold.tables import cold_tables
from lifecycle.database import Connection, connect, rows, value
from lifecycle.erasures.run import erase_batch
from lifecycle.errors import RefusedError
from lifecycle.migrating.migrate import upgrade
from tests.cold import month, move_all, now
from tests.cold_views import AKI, BEN, COLD, FAR, NARROW, THAWED, Twins, make_twins, noted
from tests.erasing import ask
from tests.kept import definition_of, refresh
from tests.partitioned import MakePartitionedDb
from tests.people import insert

pytest_plugins = ("tests.partitioned_fixtures",)

EVENTS = cold_tables(COLD)[0]


FILL_BESIDE = """
select lifecycle.build_narrow_month(p, %s, to_regclass(%s)) from lifecycle.event_table_policies p
 where p.table_name = 'user_behavior_events'
"""


@pytest.fixture
def twins(make_partitioned_db: MakePartitionedDb, tmp_path: Path) -> Twins:
    return make_twins(make_partitioned_db, tmp_path / "store")


def plan_of(conn: Connection, query: str) -> str:
    return "\n".join(line for (line,) in rows(conn, f"explain (analyze, costs off) {query}"))


@pytest.mark.every_version
def test_no_figure_changes_while_months_leave_are_erased_from_and_come_back(twins: Twins) -> None:
    before = twins.figures()
    with connect(twins.url) as conn, connect(twins.plain) as plain:
        near = definition_of(conn, "told_lately")
        assert near == definition_of(plain, "told_lately")
        assert all(NARROW in definition_of(conn, view) for view in FAR if view != "told_upon_a_view")
        conn.execute("select lifecycle.forget_changed_rows()")
        moved = move_all(twins.url, twins.storage, EVENTS)
        assert len(moved) == 3
        assert noted(conn) == 0
        cold_rows = sum(month.rows for month in moved)
        assert value(conn, f"select count(*) from {NARROW}") == cold_rows
        assert twins.figures() == before
        lately = plan_of(conn, "select * from told_lately")
        assert "narrow" not in lately
        assert f"{month(3):%Y_%m}" not in lately
        of_a_moment = plan_of(conn, f"select * from told_by_moment where at >= '{month(3)}'")
        assert f"narrow_{month(3):%Y_%m}" in of_a_moment
        assert f"narrow_{month(4):%Y_%m}" not in of_a_moment

        # The application gives a column another name.
        for each in (conn, plain):
            each.execute("alter table user_behavior_events rename column label to called")
        assert not [line for line in upgrade(twins.url, COLD).changes if "does not see" in line]
        assert months_to_fill(conn, EVENTS) == []
        assert twins.figures() == before

        # Late rows of a cold month, which go into a file of their own.
        for each in (conn, plain):
            insert(each, "user_behavior_events", id=AKI.id("late"), account_id=AKI.account, session_id="late",
                   event_timestamp=month(4), page_url="/late")  # fmt: skip
        assert refresh(conn)["kept_by_account"][:2] == ("keyed", 2)
        late = twins.figures()
        assert late != before
        conn.execute("select rotate_event_partitions()")
        assert [month.rows for month in move_all(twins.url, twins.storage, EVENTS)] == [1]
        assert value(conn, f"select count(*) from {NARROW}") == cold_rows + 1
        assert twins.figures() == late

        # What a move left that was cut off names people, too, and is no part of anything.
        conn.execute(FILL_BESIDE, (month(1), f"event_partitions.user_behavior_events_{month(1):%Y_%m}"))
        left = f"{NARROW}_{month(1):%Y%m}"
        assert value(conn, "select to_regclass(%s)", (left,)) is not None

        # Whoever is erased is erased from the figures.
        for url, storage in ((twins.url, twins.storage), (twins.plain, None)):
            with connect(url) as each:
                ask(each, AKI)
                each.execute("select public.enqueue_deletion_jobs()")
                batch = erase_batch(each, storage=storage)
                assert batch is not None
                assert (batch.verified, batch.failed) == (1, ())
        assert refresh(conn)["kept_by_account"][0] != "whole"
        erased = twins.figures()
        assert erased != late
        assert value(conn, "select to_regclass(%s)", (left,)) is None
        thawed = value(conn, f"select count(*) from {THAWED}")
        assert thawed > 0
        assert value(conn, f"select count(*) from {NARROW}") == cold_rows + 1 - thawed

        conn.execute("select lifecycle.forget_changed_rows()")
        assert noted(conn) == 0
        assert refreeze(twins.url, EVENTS, twins.storage, now()) == thawed
        assert value(conn, f"select count(*) from {NARROW}") == cold_rows + 1
        assert noted(conn) == 0
        assert twins.figures() == erased

        # One more waits in the default partition when the month comes back.
        for each in (conn, plain):
            insert(each, "user_behavior_events", id=BEN.id("later"), account_id=BEN.account, session_id="later",
                   event_timestamp=month(4), page_url="/late")  # fmt: skip
        erased = twins.figures()
        conn.execute("select lifecycle.forget_changed_rows()")
        assert noted(conn) == 0
        restored = restore_month(twins.url, EVENTS, month(4), twins.storage, keep_for=timedelta(days=7), now=now())
        assert restored.rows > 0
        assert noted(conn) == 0
        assert value(conn, f"select count(*) from {NARROW}") == cold_rows + 1 - (restored.rows - 1)
        assert twins.figures() == erased
        assert definition_of(conn, "told_lately") == near
        # What a foreign key did to a row when its month came back is a change like any other.
        for each in (conn, plain):
            each.execute("delete from accounts where id = %s", (BEN.account,))
        refresh(conn)
        conn.execute("select lifecycle.forget_changed_rows()")
        assert noted(conn) == 0
        restored = restore_month(twins.url, EVENTS, month(3), twins.storage, keep_for=timedelta(days=7), now=now())
        assert restored.after_actions > 0
        assert noted(conn) > 0
        twins.figures()
        # Kept views: nothing differs from their definitions.
        assert value(conn, "select sum(differing) from reconcile_statistics()") == 0


def test_retention_takes_the_figures_along(twins: Twins) -> None:
    move_all(twins.url, twins.storage, EVENTS)
    before = twins.figures()
    with connect(twins.url) as conn, connect(twins.plain) as plain:
        for each in (conn, plain):
            each.execute("update lifecycle.event_table_policies set retention = '4 months'")
        plain.execute("select rotate_event_partitions()")
        conn.execute("select rotate_event_partitions()")
        assert retire_expired(conn, EVENTS, now()) > 0
        after = twins.figures()
        assert after != before
        assert value(conn, f"select min(event_timestamp) from {NARROW}") >= month(4)
        # A row that is there already comes again, months late: nobody can tell which of the two is right.
        insert(conn, "user_behavior_events", id=AKI.id("event 3 1"), account_id=AKI.account, session_id="again",
               event_timestamp=month(3), page_url="/again")  # fmt: skip
        conn.execute("select rotate_event_partitions()")
        with pytest.raises(RefusedError, match="a row came late that has the key of a row of the month"):
            move_all(twins.url, twins.storage, EVENTS)
        assert {back for (back,) in rows(conn, "select month from lifecycle.narrow_months")} == {month(3), month(4)}
