"""What the plan refuses: with which reason, and before anything is touched."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
import pytest

from lifecycle.database import connect, rows
from lifecycle.errors import RefusedError
from lifecycle.partitions.plan import plan_conversion, plan_rotation
from tests.conversion_load import BEHAVIOUR, CATALOG, REPLAY, convert

# What Python decides and in which order; the statements run on both versions in the other files.
pytestmark = pytest.mark.one_server
MakeDb = Callable[..., str]

# What is done to the table, and words of the reason that the plan must give.
REFUSED = {
    "inbound foreign key": (
        "create table notes (event uuid constraint notes_event references user_behavior_events (id))",
        ("foreign key notes_event of notes points at it", "drop that constraint"),
    ),
    "unique index without the time": (
        "create unique index one_page on user_behavior_events (account_id, page_url)",
        ("unique index one_page does not hold event_timestamp",),
    ),
    "unique constraint without the time": (
        "alter table user_behavior_events add constraint once unique (session_id, page_url)",
        ("unique index once does not hold event_timestamp",),
    ),
    "exclusion constraint": (
        "alter table user_behavior_events add constraint apart exclude (page_url with =)",
        ("exclusion constraint apart",),
    ),
    "constraint that is not valid": (
        "alter table user_behavior_events add constraint short check (length(page_url) < 9) not valid",
        ("constraint short is NOT VALID", "VALIDATE CONSTRAINT"),
    ),
    "rule": (
        "create rule quiet as on delete to user_behavior_events do instead nothing",
        ("rule quiet", "trigger"),
    ),
    "row trigger with transition table": (
        "create function f() returns trigger language plpgsql as 'begin return null; end';"
        "create trigger each after insert on user_behavior_events referencing new table as n"
        " for each row execute function f()",
        ("trigger each has transition tables",),
    ),
    "inheritance": ("create table child () inherits (user_behavior_events)", ("inherited by", "child")),
    "row type in a function": (
        "create function newest() returns setof user_behavior_events language sql as"
        " 'select * from user_behavior_events'",
        ("newest()", "row type"),
    ),
    "row type in a column": (
        "create table copies (event user_behavior_events)",
        ("column event of table copies", "row type"),
    ),
    "GROUP BY the key alone": (
        "create view grouped as select id, page_url, count(*) from user_behavior_events group by id",
        ("grouped depends on the primary key", "GROUP BY"),
    ),
    "unlogged": ("alter table user_behavior_events set unlogged", ("unlogged",)),
    "no primary key": (
        "alter table user_behavior_events drop constraint user_behavior_events_pkey",
        ("no primary key",),
    ),
    "no time column": (
        "alter table user_behavior_events rename column event_timestamp to happened_at",
        ("no column event_timestamp",),
    ),
    "time without zone": (
        "drop table user_behavior_events cascade;"
        "create table user_behavior_events (id uuid primary key, event_timestamp timestamp not null)",
        ("event_timestamp is a timestamp without time zone", "zone: UTC"),
    ),
    "time that is a number": (
        "drop table user_behavior_events cascade;"
        "create table user_behavior_events (id uuid primary key, event_timestamp bigint not null)",
        (
            "event_timestamp must be timestamptz, timestamp or date, and is bigint",
            "ALTER COLUMN event_timestamp TYPE timestamptz",
        ),
    ),
    "nullable time": (
        "alter table user_behavior_events alter column event_timestamp drop not null",
        ("event_timestamp may be null", "SET event_timestamp = ... WHERE", "ALTER COLUMN event_timestamp SET NOT NULL"),
    ),
    "check of the row as a whole": (
        "alter table user_behavior_events add constraint whole_row check (user_behavior_events is not null)",
        ("constraint whole_row checks the row as a whole",),
    ),
    "index of the row as a whole": (
        "create function whole(record) returns boolean immutable language plpgsql as 'begin return true; end';"
        "create index whole_row on user_behavior_events (whole(user_behavior_events))",
        ("index whole_row is of the row as a whole",),
    ),
    "index where the row as a whole": (
        "create index whole_row on user_behavior_events (id) where user_behavior_events is not null",
        ("index whole_row is of the row as a whole",),
    ),
    "table of a type": (
        "create type kind as (id uuid, event_timestamp timestamptz);"
        "drop table user_behavior_events cascade;"
        "create table user_behavior_events of kind (id primary key, event_timestamp not null)",
        ("it is a table of type kind", "NOT OF"),
    ),
    **{
        f"BEFORE trigger: {body}": (
            f"create function stamp() returns trigger language plpgsql as $$ begin {body} return new; end $$;"
            "create trigger stamp before insert on user_behavior_events for each row execute function stamp()",
            ("trigger stamp sets event_timestamp before the row is stored",),
        )
        for body in (
            "new.event_timestamp := now();",
            "if true then new.event_timestamp = now(); end if;",
            "select now(), 1 into new.event_timestamp, new.page_url;",
            "new := jsonb_populate_record(new, '{}');",
            "select * into new from user_behavior_events limit 1;",
            "/* one */ new.event_timestamp := now(); /* two */",
            "raise notice '--'; new.event_timestamp := now();",
            "execute 'select now()' into new.event_timestamp;",
            "return jsonb_populate_record(new, '{}');",
        )
    },
    "view with ONLY": (
        "create view bare as select e.id from only user_behavior_events e",
        ("bare reads it with ONLY",),
    ),
    "rule of another table": (
        "create table other (id uuid);"
        "create rule copy as on insert to other do also insert into user_behavior_events (session_id, page_url)"
        " values ('rule', '/')",
        ("rule copy", "other"),
    ),
    "materialized views of one name": (
        "create schema reports;"
        "create materialized view daily as select count(*) from user_behavior_events;"
        "create materialized view reports.daily as select count(*) from user_behavior_events",
        ("2 relations named daily",),
    ),
    "materialized view named like a table": (
        "create schema reports; create table daily ();"
        "create materialized view reports.daily as select count(*) from user_behavior_events",
        ("daily has the name of a relation",),
    ),
}


# Reads the time, compares it, and speaks of setting it.
HARMLESS = """
create function harmless() returns trigger language plpgsql as $$
begin
    -- new.event_timestamp := now();
    if new.event_timestamp = old.event_timestamp then
        insert into audit_events (entity_type, payload) values ('event', jsonb_build_object('at', new.event_timestamp));
    end if;
    return new; /* new.event_timestamp = now(); */
end $$;
create trigger harmless before update on user_behavior_events for each row execute function harmless()
"""


def test_reasons(make_application_db: MakeDb, now: datetime, subtests: pytest.Subtests) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        for case, (statements, words) in REFUSED.items():
            with subtests.test(case=case), conn.transaction(force_rollback=True):
                conn.execute(statements.encode())
                plan = plan_conversion(conn, BEHAVIOUR, now)
                assert plan.state == "refused"
                for word in words:
                    assert word in "\n".join(plan.refusals)
        assert plan_conversion(conn, BEHAVIOUR, now).state == "ready"
        conn.execute(HARMLESS)
        assert plan_conversion(conn, BEHAVIOUR, now).state == "ready"


@pytest.mark.parametrize("case", ["inbound foreign key", "row type in a function", "unlogged", "no time column"])
def test_refused_before_anything_is_touched(make_application_db: MakeDb, now: datetime, case: str) -> None:
    url = make_application_db(rows=False, migrated=True)
    statements, words = REFUSED[case]
    with connect(url) as conn:
        conn.execute(statements.encode())
        before = rows(conn, CATALOG)
        with pytest.raises(RefusedError) as refused:
            convert(url, BEHAVIOUR, now)
        assert rows(conn, CATALOG) == before
    for word in ("public.user_behavior_events", *words):
        assert word in str(refused.value)


def test_missing_table(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute("drop table user_behavior_events cascade")
        assert plan_conversion(conn, BEHAVIOUR, now).state == "missing"
    with pytest.raises(RefusedError, match="does not exist"):
        convert(url, BEHAVIOUR, now)


def test_view_in_the_place_of_the_table(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute("alter table session_replay_events rename to replays")
        conn.execute("create view session_replay_events as select * from replays")
    with pytest.raises(RefusedError, match="no ordinary table"):
        convert(url, REPLAY, now)


def test_not_migrated(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False)
    with connect(url) as conn:
        plan = plan_conversion(conn, BEHAVIOUR, now)
        assert (plan.state, plan.refusals) == ("not_migrated", ())
        assert plan.next_step.startswith("run `lifecycle migrate`")
        assert plan_rotation(conn, BEHAVIOUR, now).create == ()
        before = rows(conn, CATALOG)
        with pytest.raises(RefusedError, match="lifecycle migrate"):
            convert(url, BEHAVIOUR, now)
        assert rows(conn, CATALOG) == before


def test_not_the_owner(make_application_db: MakeDb, server: Any, now: datetime) -> None:
    """Neither the table's nor a dependent view's owner: both are named."""
    url = make_application_db(rows=False, migrated=True)
    database = url.rsplit("/", 1)[1]
    with psycopg.connect(server.url(database, user="supabase_admin"), autocommit=True) as admin, connect(url) as conn:
        admin.execute("create view foreign_view as select id from public.session_replay_events")
        assert plan_conversion(conn, REPLAY, now).refusals == (
            "public.foreign_view reads it and belongs to another role, so it cannot be switched",
        )
        admin.execute("drop view foreign_view")
        admin.execute("alter table session_replay_events owner to supabase_admin")
        with pytest.raises(RefusedError, match="it belongs to role supabase_admin"):
            convert(url, REPLAY, now)


def test_function_of_another_owner(make_application_db: MakeDb, server: Any, now: datetime) -> None:
    """Only a function with a parsed body holds the table by its OID; the text of others is read when they run."""
    url = make_application_db(rows=False, migrated=True)
    admin_url = server.url(url.rsplit("/", 1)[1], user="supabase_admin")
    body = "return (select count(*) from public.session_replay_events)"
    with psycopg.connect(admin_url, autocommit=True) as admin, connect(url) as conn:
        admin.execute(
            "create function textual() returns bigint language sql as 'select count(*) from session_replay_events'"
        )
        assert plan_conversion(conn, REPLAY, now).state == "ready"
        admin.execute(f"create function parsed() returns bigint {body}".encode())
        with pytest.raises(RefusedError, match=r"function parsed\(\) reads it and belongs to role supabase_admin"):
            convert(url, REPLAY, now)


@pytest.mark.parametrize("migrated", [True, False])
def test_partitioned_by_somebody_else(make_application_db: MakeDb, now: datetime, migrated: bool) -> None:
    url = make_application_db(rows=False, migrated=migrated)
    with connect(url) as conn:
        conn.execute("drop table session_replay_events")
        conn.execute(
            "create table session_replay_events (id uuid, session_id text, event_type text, event_data jsonb,"
            ' "timestamp" timestamptz not null) partition by range ("timestamp")'
        )
        conn.execute("create table theirs partition of session_replay_events default")
        plan = plan_conversion(conn, REPLAY, now)
        assert plan.state == "refused"
        assert "not by this project" in plan.refusals[0]
        assert plan_rotation(conn, REPLAY, now).drop == ()
    with pytest.raises(RefusedError, match="not by this project"):
        convert(url, REPLAY, now)
