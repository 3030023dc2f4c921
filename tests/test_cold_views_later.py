"""Views that come when months are cold already, views that cannot see them, and taking it all back."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from lifecycle.checking.views import kept_mismatches
from lifecycle.cold.due import months_to_move
from lifecycle.cold.fill_narrow import fill_narrow_months, months_to_fill
from lifecycle.cold.move import move_month
from lifecycle.cold.plan import plan_cold_months
from lifecycle.cold.restore import restore_month
from lifecycle.cold.sweep import remove_retired
from lifecycle.cold.tables import ColdTable, cold_tables
from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.migrating.migrate import upgrade
from lifecycle.migrating.undo import undo
from sandbox.server import SUPERUSER
from tests.cold import COLD_AFTER, local_storage, move_all, now, with_cold_months
from tests.cold_views import COLD, NARROW, make_twins
from tests.declared import WITHOUT_KEPT_VIEWS
from tests.kept import definition_of
from tests.partitioned import MakePartitionedDb

pytest_plugins = ("tests.partitioned_fixtures",)

# The application's own views that read old rows stay out of the way of these tests.
FEW: Application = with_cold_months(WITHOUT_KEPT_VIEWS, user_behavior_events=COLD_AFTER)
EVENTS = cold_tables(COLD)[0]
OWN_VIEWS = """
drop view user_engagement_scores, user_retention, weekly_cohort_analysis, weekly_monthly_active_users,
          daily_active_users;
drop materialized view daily_user_behavior_summary
"""


def told(conn: Connection, view: str) -> list[str]:
    conn.execute("set timezone = 'UTC'")
    return sorted(text for (text,) in rows(conn, f"select v::text from {view} v"))


def move_first(url: str, folder: Path, table: ColdTable = EVENTS) -> None:
    with connect(url) as conn:
        due = months_to_move(conn, table, now())
    move_month(url, table, due[0], local_storage(folder))


@pytest.mark.every_version
def test_a_view_that_comes_later_sees_cold_months_once_they_are_read_out_of_their_files(
    make_partitioned_db: MakePartitionedDb, tmp_path: Path
) -> None:
    url = make_partitioned_db()
    storage = local_storage(tmp_path)
    with connect(url) as conn:
        conn.execute(OWN_VIEWS)
        upgrade(url, FEW)
        assert value(conn, "select to_regclass(%s)", (NARROW,)) is None
        conn.execute("create view before as select page_url, count(*) from user_behavior_events group by 1")
        expected = told(conn, "before")
        conn.execute("drop view before")
        moved = move_all(url, storage, EVENTS)
        conn.execute("create view late as select page_url, count(*) from user_behavior_events group by 1")
        assert told(conn, "late") != expected
        (mismatch,) = kept_mismatches(conn, FEW)
        assert (mismatch.object, "page_url" in mismatch.told) == ("public.late", True)
        changes = "\n".join(upgrade(url, FEW).changes)
        assert f"table {NARROW}: made" in changes
        assert f"view public.late does not see {NARROW}: 3 cold months are not in" in changes
        conn.execute("update lifecycle.event_table_policies set cold_after = '1 month'")
        with pytest.raises(RefusedError, match=r"view public\.late \(3 cold months are not in"):
            move_first(url, tmp_path)
        assert len(months_to_fill(conn, EVENTS)) == len(moved)
        assert fill_narrow_months(url, EVENTS, storage) == len(moved)
        assert months_to_fill(conn, EVENTS) == []
        upgrade(url, FEW)
        assert told(conn, "late") == expected
        # Another column; what is there already stays, and the view that reads it goes on.
        conn.execute("create view later as select max(user_agent), count(distinct language) from user_behavior_events")
        upgrade(url, FEW)
        assert told(conn, "late") == expected
        fill_narrow_months(url, EVENTS, storage)
        assert not list(kept_mismatches(conn, FEW))[1:]
        assert value(conn, f"select count(*) from {NARROW}") == sum(each.rows for each in moved)
        assert told(conn, "late") == expected


@pytest.fixture
def url(make_partitioned_db: MakePartitionedDb) -> str:
    url = make_partitioned_db()
    with connect(url) as conn:
        conn.execute(OWN_VIEWS)
    return url


def as_superuser(url: str) -> str:
    return make_url(url).set(username=SUPERUSER).render_as_string(hide_password=False)


COUNTED = "as select count(*) from user_behavior_events"


def test_who_would_answer_otherwise_refuses_by_name(url: str, tmp_path: Path) -> None:
    with connect(url) as conn:
        conn.execute(f"create view asks_as_the_reader with (security_invoker) {COUNTED}")
        conn.execute("create view written_through as select id, page_url from user_behavior_events")
        conn.execute(f"create view lately {COUNTED} where event_timestamp > now() - interval '1 day'")
        conn.execute("create view upon_it as select * from asks_as_the_reader")
        conn.execute(f"create view of_another {COUNTED}")
        with connect(as_superuser(url)) as other:
            other.execute("alter view of_another owner to supabase_admin")
        conn.execute(
            "create policy by_events on accounts"
            " using (exists (select from user_behavior_events e where e.account_id = id))"
        )
        conn.execute(
            f"create function counts_events() returns bigint language sql {COUNTED.replace('as ', 'as $$', 1)} $$"
        )
        told = "\n".join(upgrade(url, FEW).changes)
        assert "view public.of_another does not see" in told
        with pytest.raises(RefusedError) as refused:
            move_first(url, tmp_path)
        for named in (
            "policy by_events on accounts",
            "view public.asks_as_the_reader (security_invoker is on",
            "view public.of_another (it belongs to supabase_admin",
            "view public.upon_it",
            "view public.written_through (rows can be written through it",
        ):
            assert named in str(refused.value)
        assert "lately" not in str(refused.value)
        assert "counts_events" not in str(refused.value)
        (plan,) = plan_cold_months(conn, FEW, now())
        assert "public.counts_events()" in str(plan.functions) or "counts_events()" in str(plan.functions)
        assert len(plan.refused) == 5
        assert {found.object for found in kept_mismatches(conn, FEW)} == {
            "public.asks_as_the_reader", "public.of_another", "public.written_through",
        }  # fmt: skip

        # Somebody accepts it.
        events = FEW.event_tables[EVENTS.relation].model_copy(update={"accept_changed_views": True})
        tables = {**FEW.event_tables, EVENTS.relation: events}
        accepting = FEW.model_copy(
            update={"event_table_file": FEW.event_table_file.model_copy(update={"root": tables})}
        )
        (table,) = cold_tables(accepting)
        assert not list(kept_mismatches(conn, accepting))
        assert not plan_cold_months(conn, accepting, now())[0].refused
        before = value(conn, "select count from asks_as_the_reader")
        move_first(url, tmp_path, table)
        assert value(conn, "select count from asks_as_the_reader") < before


@pytest.mark.every_version
def test_taken_back_views_read_their_table_alone_again(make_partitioned_db: MakePartitionedDb, tmp_path: Path) -> None:
    twins = make_twins(make_partitioned_db, tmp_path)
    before = twins.figures()
    with connect(twins.url) as conn, connect(twins.plain) as plain:
        (plan,) = plan_cold_months(conn, COLD, now())
        assert (len(plan.months), plan.refused) == (3, ())
        assert {"id", "event_timestamp", "account_id", "session_id", "page_url"} <= set(plan.stays_columns)
        assert 0 < plan.stays_bytes < plan.hot_bytes
        moved = move_all(twins.url, twins.storage, EVENTS)
        with pytest.raises(RefusedError, match="rows are in cold storage"):
            undo(twins.url, COLD, "cold")
        for each in moved:
            restore_month(twins.url, EVENTS, each.month, twins.storage, keep_for=timedelta(days=7), now=now())
        remove_retired(conn, twins.storage)
        undo(twins.url, COLD, "cold")
        assert value(conn, "select to_regclass(%s)", (NARROW,)) is None
        for view in (
            "told_plainly",
            "told_in_order",
            "told_of_rows",
            "told_upon_a_view",
            "told_lately",
            "told_from_disk",
        ):
            assert definition_of(conn, view) == definition_of(plain, view)
        assert twins.figures() == before
