"""What an application may do to its table at the worst moment: no row, value or restriction is lost by it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
import pytest

from lifecycle.database import connect, connect_directly, rows, value
from lifecycle.errors import BusyError, RefusedError
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.plan import plan_conversion
from lifecycle.partitions.split import BUILDER_SETTINGS, drop_targets
from tests.conversion_load import BEHAVIOUR, FEW_MONTHS, at_step, convert, fill, fingerprint, insert_event, leftovers

MakeDb = Callable[..., str]


@pytest.fixture
def url(make_application_db: MakeDb, now: datetime) -> str:
    made = make_application_db(rows=False, migrated=True)
    fill(made, BEHAVIOUR, now, count=300, span=FEW_MONTHS)
    return made


def run(url: str, *statements: str) -> Callable[[], None]:
    """The statements as something that another session does."""

    def work() -> None:
        with connect(url) as other:
            for statement in statements:
                other.execute(statement.encode())

    return work


def test_column_added_before_changes_are_captured(url: str, now: datetime) -> None:
    add = run(
        url,
        "alter table user_behavior_events add column campaign text default 'none'",
        "update user_behavior_events set campaign = 'spring' where page_url < '/m'",
    )
    convert_table(url, BEHAVIOUR, now=now, progress=at_step("names swapped", add))
    with connect(url) as conn:
        wrong = "select count(*) from user_behavior_events where (campaign = 'spring') <> (page_url < '/m')"
        assert value(conn, wrong) == 0
        assert value(conn, "select count(*) from user_behavior_events where campaign = 'spring'") > 0


def test_column_added_while_months_are_built(url: str, now: datetime) -> None:
    done: list[str] = []

    def alter(message: str, _fraction: float) -> None:
        if ": built " in message and not done:
            done.append(message)
            run(
                url,
                "alter table user_behavior_events add column campaign int default 7",
                "update user_behavior_events set campaign = 8 where page_url < '/m'",
            )()

    with pytest.raises(BusyError, match="was altered"):
        convert_table(url, BEHAVIOUR, now=now, progress=alter)
    before = fingerprint(url, BEHAVIOUR)
    assert convert(url, BEHAVIOUR, now).outcome == "converted"
    assert fingerprint(url, BEHAVIOUR) == before
    assert leftovers(url) == []


def test_access_closed_between_attachment_and_swap_stays_closed(url: str, now: datetime, as_role: Any) -> None:
    policies = "select array_agg(polname::text) from pg_policy where polrelid = 'user_behavior_events'::regclass"
    with connect(url) as conn:
        ours = value(conn, policies) or []
    close = run(
        url,
        "revoke all on user_behavior_events from anon",
        "alter table user_behavior_events enable row level security",
        "create policy own on user_behavior_events for select to authenticated using (account_id = auth_account_id())",
        "comment on table user_behavior_events is 'closed'",
    )
    convert_table(url, BEHAVIOUR, now=now, progress=at_step("attached to its new parent", close))
    with connect(url) as conn:
        assert value(conn, "select relrowsecurity from pg_class where oid = 'user_behavior_events'::regclass")
        assert sorted(value(conn, policies)) == sorted([*ours, "own"])
        assert value(conn, "select obj_description('user_behavior_events'::regclass)") == "closed"
    with as_role(url, "anon") as anon, pytest.raises(psycopg.errors.InsufficientPrivilege):
        anon.execute("select count(*) from user_behavior_events")
    with as_role(url, "authenticated", {"sub": "00000000-0000-0000-0000-000000000001"}) as somebody:
        assert somebody.execute("select count(*) from user_behavior_events").fetchone() == (0,)


@pytest.mark.parametrize(
    ("change", "undo", "named"),
    [
        ("create index by_language on user_behavior_events (language)", "drop index by_language", "language"),
        (
            "alter table user_behavior_events add constraint short check (length(page_url) < 9000)",
            "alter table user_behavior_events drop constraint short",
            "constraint short",
        ),
        (
            "alter table user_behavior_events replica identity full",
            "alter table user_behavior_events replica identity default",
            "replica identity",
        ),
    ],
)
def test_structure_changed_between_attachment_and_swap(
    url: str, now: datetime, change: str, undo: str, named: str
) -> None:
    before = fingerprint(url, BEHAVIOUR)
    with pytest.raises(RefusedError, match=named):
        convert_table(url, BEHAVIOUR, now=now, progress=at_step("attached to its new parent", run(url, change)))
    assert fingerprint(url, BEHAVIOUR) == before
    run(url, undo)()
    assert convert(url, BEHAVIOUR, now).outcome == "converted"
    assert fingerprint(url, BEHAVIOUR) == before


def test_writers_that_skip_ordinary_triggers(url: str, now: datetime, server: Any) -> None:
    def replicate() -> None:
        database = url.rsplit("/", 1)[1]
        with psycopg.connect(server.url(database, user="supabase_admin"), autocommit=True) as apply:
            apply.execute("set session_replication_role = replica")
            apply.execute("insert into user_behavior_events (session_id, page_url) values ('applied', '/')")
            apply.execute("delete from user_behavior_events where session_id = 'known'")

    convert_table(url, BEHAVIOUR, now=now, progress=at_step("agree in count", replicate))
    with connect(url) as conn:
        assert value(conn, "select count(*) from user_behavior_events where session_id = 'applied'") == 1
        assert value(conn, "select count(*) from user_behavior_events where session_id = 'known'") == 0


@pytest.mark.parametrize("step", ["partitions built", "agree in count"])
def test_truncate(url: str, now: datetime, step: str) -> None:
    with pytest.raises(BusyError, match="was truncated"):
        convert_table(url, BEHAVIOUR, now=now, progress=at_step(step, run(url, "truncate user_behavior_events")))
    with connect(url) as conn:
        insert_event(conn, BEHAVIOUR, now, session="after")
        assert convert(url, BEHAVIOUR, now).outcome == "converted"
        assert rows(conn, "select session_id from user_behavior_events") == [("after",)]
    assert leftovers(url) == []


def test_truncate_while_a_rerun_looks_at_its_copies(url: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_table(url, BEHAVIOUR, now=now, progress=at_step("partitions built", stop))

    def drop_then_truncate(*args: Any) -> None:
        drop_targets(*args)
        run(url, "truncate user_behavior_events")()

    with monkeypatch.context() as patched:
        patched.setattr("lifecycle.partitions.convert.drop_targets", drop_then_truncate)
        with pytest.raises(BusyError, match="was truncated"):
            convert(url, BEHAVIOUR, now)
    assert convert(url, BEHAVIOUR, now).outcome == "converted"
    assert fingerprint(url, BEHAVIOUR) == (0, 0)


def test_who_builds_a_month_writes_it_out_as_it_goes(url: str) -> None:
    """Where the system can; an ordinary role may ask for it."""
    asked = "select current_setting('backend_flush_after'), max_val from pg_settings where name = 'backend_flush_after'"
    with connect(url) as conn:
        conn.execute(BUILDER_SETTINGS)
        ((used, most),) = rows(conn, asked)
    assert used == ("0" if most == "0" else "1MB")


def test_settings_of_the_role_do_not_reach_the_conversion(url: str) -> None:
    run(url, "alter role postgres set default_transaction_isolation = 'repeatable read'")()
    try:
        with connect_directly(url, application_name="a test") as conn:
            assert value(conn, "show transaction_isolation") == "read committed"
            assert value(conn, "show row_security") == "off"
    finally:
        run(url, "alter role postgres reset default_transaction_isolation")()


def test_percent_signs_and_long_names_of_indexes(url: str, now: datetime) -> None:
    long_name = "user_behavior_events_" + "x" * 36
    run(
        url,
        "create index percent on user_behavior_events (page_url) where page_url like '%/foo%s'",
        f"create index {long_name}_one on user_behavior_events (language)",
        f"create index {long_name}_two on user_behavior_events (timezone)",
    )()
    assert convert(url, BEHAVIOUR, now).outcome == "converted"
    with connect(url) as conn:
        like = "select count(*) from pg_indexes where schemaname = 'event_partitions' and indexdef like '%%/foo%%s%%'"
        assert value(conn, like) == value(
            conn, "select count(*) from pg_inherits where inhparent = 'user_behavior_events'::regclass"
        )


def test_compiled_row_types_are_compiled_again(url: str, now: datetime) -> None:
    run(
        url,
        """create function newest() returns text language plpgsql as $$
           declare found user_behavior_events%rowtype;
           begin
               select * into found from user_behavior_events order by event_timestamp desc limit 1;
               return found.session_id;
           end $$""",
    )()
    with connect(url) as pooled:
        first = value(pooled, "select newest()")
        assert convert(url, BEHAVIOUR, now).outcome == "converted"
        assert value(pooled, "select newest()") == first


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("alter table user_behavior_events force row level security", "BYPASSRLS"),
        (
            "create view own_names as with user_behavior_events as (select * from public.user_behavior_events)"
            " select session_id from user_behavior_events",
            "own_names also calls something of its own user_behavior_events",
        ),
        (
            "alter table user_behavior_events add constraint here check (page_url <> 'x') no inherit",
            "constraint here is NO INHERIT",
        ),
        (
            "create function clamp() returns trigger language plpgsql as $$ begin"
            " new.event_timestamp := least(new.event_timestamp, now()); return new; end $$;"
            " create trigger clamp before insert on user_behavior_events for each row execute function clamp()",
            "trigger clamp sets event_timestamp",
        ),
    ],
)
def test_refused(url: str, now: datetime, server: Any, statement: str, reason: str) -> None:
    run(url, statement)()
    database = url.rsplit("/", 1)[1]
    without_bypass = "nobypassrls" if "force" in statement else "bypassrls"
    with psycopg.connect(server.url(database, user="supabase_admin"), autocommit=True) as admin:
        admin.execute(f"alter role postgres {without_bypass}".encode())
        try:
            with connect(url) as conn:
                assert reason in "; ".join(plan_conversion(conn, BEHAVIOUR, now).refusals)
            with pytest.raises(RefusedError, match="cannot be partitioned"):
                convert(url, BEHAVIOUR, now)
        finally:
            admin.execute("alter role postgres bypassrls")


def test_publication_of_all_tables_is_refused(url: str, now: datetime, server: Any) -> None:
    with psycopg.connect(server.url(url.rsplit("/", 1)[1], user="supabase_admin"), autocommit=True) as admin:
        admin.execute("create publication everything for all tables")
    with connect(url) as conn:
        assert "publication everything is FOR ALL TABLES" in "; ".join(plan_conversion(conn, BEHAVIOUR, now).refusals)
