"""Everything of a person goes, in every table of the map, and nothing of anybody else."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lifecycle.database import connect, rows, value
from sandbox.application import apply_december, clone_database, drop_database
from sandbox.server import Server
from tests.conftest import MakeApplicationDb, Templates
from tests.erasing import EXEMPT, Picture, ask, claim, job, picture, process, step, traces
from tests.partitioned import MakePartitionedDb, plain_session
from tests.people import ACTIVITY, Person, add_booking, add_catalogue, add_person, add_visit, browser_session, insert

pytest_plugins = ("tests.partitioned_fixtures",)

SHARED = browser_session("shared")
FAMILY = "family@mail.example"
PER_DAY = """
select event_timestamp::date, count(*), sum((revenue_metrics ->> 'amount')::int) from business_metrics_events group by 1
 union all
select event_timestamp::date, count(*), sum((engagement ->> 'timeOnPage')::int) from user_behavior_events group by 1
"""
BUSINESS_RECORD = """
select v.id, v.voucher_code, v.valid_from, v.valid_until, v.max_redemptions, v.redemptions_used, v.created_at,
       r.id, r.vendor_member_id, r.scanned_at, f.booking_date, f.status, f.country, f.activity_id, f.created_at
  from vouchers v
  join voucher_redemptions r on r.voucher_id = v.id
  join form_submissions f on f.id = v.form_submission_id
"""
STATISTICS = """
select 'usage', t::text from chat_usage_by_account t where t.account_id = %(account)s
 union all select 'function', t::text from account_function_usage t where t.account_id = %(account)s
 union all select 'engagement', t::text from user_engagement_scores t where t.account_id = %(account)s
 union all select 'summary', t::text from daily_user_behavior_summary t where t.account_id = %(account)s
"""
WRITTEN = """
select distinct l.relation::regclass::text from pg_locks l join pg_class c on c.oid = l.relation
 where l.pid = pg_backend_pid() and l.mode = 'RowExclusiveLock' and c.relkind = 'r' and c.relispartition
"""
HELD = """
select tableoid::regclass::text from user_behavior_events where account_id = %(account)s or session_id = %(visit)s
 union
select tableoid::regclass::text from business_metrics_events where account_id = %(account)s or session_id = %(visit)s
 union
select tableoid::regclass::text from session_replay_events where session_id = %(visit)s
"""


@dataclass(frozen=True)
class World:
    """Before and after the erasure of aki, who shares a visit with ben; `others` as they stood without aki."""

    url: str
    others: Picture
    before: Picture
    after: Picture
    per_day: tuple[list[tuple[object, ...]], list[tuple[object, ...]]]
    records: tuple[list[tuple[object, ...]], list[tuple[object, ...]]]
    statistics: tuple[list[tuple[object, ...]], list[tuple[object, ...]]]


AKI, BEN, CHO = Person("aki"), Person("ben"), Person("cho")


@pytest.fixture(scope="module", params=["plain", "partitioned"])
def world(
    request: pytest.FixtureRequest,
    server: Server,
    templates: Templates,
    partitioned_template: Callable[[bool], str],
) -> Iterator[World]:
    template = templates(False, True, True) if request.param == "plain" else partitioned_template(True)
    name = f"erased_{request.param}"
    yield build_world(clone_database(server, template, name))
    drop_database(server, name)


def build_world(url: str) -> World:
    with connect(url) as conn:
        add_catalogue(conn)
        add_person(conn, BEN.name, shared=SHARED)
        add_visit(conn, BEN, SHARED, signed_in=False, number=2)
        insert(conn, "accounts", id=CHO.account)
        for what, signed_in in (("own", True), ("guest", False)):
            add_booking(conn, CHO, what, FAMILY, signed_in=signed_in)
        others = picture(conn)
        add_person(conn, AKI.name, shared=SHARED)
        add_booking(conn, AKI, "family", FAMILY, signed_in=True)
        insert(
            conn,
            "generated_activity_saves",
            id=BEN.id("saved_gift"),
            generated_activity_id=AKI.id("gift"),
            account_id=BEN.account,
            source="chat",
        )
        insert(
            conn,
            "audit_events",
            id=BEN.id("mention"),
            entity_type="vendor",
            entity_id="tea house",
            event_type="note",
            payload={"note": f"ask\n{AKI.email}. Not {BEN.email}", "list": [1, {"by": str(AKI.account)}]},
        )
        conn.execute("refresh materialized view account_function_usage")
        conn.execute("select lifecycle.refresh_kept_view(v) from lifecycle.kept_views v order by v.place")
        conn.execute("refresh materialized view daily_user_behavior_summary")
        conn.execute("refresh materialized view top_search_keywords")
        assert len(rows(conn, STATISTICS, {"account": AKI.account})) >= 4
        before, per_day, records = picture(conn), sorted(rows(conn, PER_DAY)), sorted(rows(conn, BUSINESS_RECORD))
        statistics = sorted(rows(conn, STATISTICS, {"account": BEN.account}))
        asked = ask(conn, AKI)
        process(conn)
        assert job(conn, asked) == job(conn, asked) | {"state": "verified", "sign_in_user": "deleted"}
        return World(
            url,
            others,
            before,
            picture(conn),
            (per_day, sorted(rows(conn, PER_DAY))),
            (records, sorted(rows(conn, BUSINESS_RECORD))),
            (statistics, sorted(rows(conn, STATISTICS, {"account": BEN.account}))),
        )


def changed(world: World, table: str) -> dict[str, tuple[str, str | None]]:
    """Rows of a table as they were and as they are, where these differ."""
    return {
        key: (content, world.after.get((name, key)))
        for (name, key), content in world.before.items()
        if name == table and world.after.get((name, key)) != content
    }


def test_nothing_of_the_person_is_left_anywhere(world: World) -> None:
    with connect(world.url) as conn:
        left = traces(conn, AKI)
    assert set(left) == EXEMPT
    assert set().union(*left.values()) == {str(AKI.account)}


def test_rows_of_others_are_byte_identical(world: World) -> None:
    """But for the replay of the shared visit, which shows both people."""
    lost = {key for key, content in world.others.items() if world.after.get(key) != content}
    shared = {f"replay/{SHARED}/own/1", f"replay/{SHARED}/anonymous/2"}
    assert lost == {("session_replay_events", str(BEN.id(what))) for what in shared}
    assert {table for table, key in world.after if (table, key) not in world.before} <= {
        "audit_events",
        "data_deletion_requests",
    }


def test_free_form_of_others_loses_the_person_only(world: World) -> None:
    before, after = changed(world, "audit_events")[str(BEN.id("mention"))]
    assert after == re.sub(f"{re.escape(AKI.email)}|{AKI.account}", "erased", before)
    assert BEN.email in after


def test_the_ledger_keeps_an_allow_list_of_what_it_knew(world: World) -> None:
    with connect(world.url) as conn:
        found = rows(
            conn,
            "select entity_id, performed_by, payload from audit_events where id = any (%s) order by entity_id",
            ([AKI.id("audit/subject"), AKI.id("audit/performer")],),
        )
    assert {by for _, by, _ in found} == {None}
    assert {entity for entity, _, _ in found} == {"erased", str(ACTIVITY)}
    assert all(payload == {"status": "done", "reason_code": "r1"} for _, _, payload in found)


def test_figures_per_day_and_business_records_stay(world: World) -> None:
    assert world.per_day[0] == world.per_day[1]
    assert world.records[0] == world.records[1]


def test_figures_of_others_stay(world: World) -> None:
    assert world.statistics[0]
    assert world.statistics[0] == world.statistics[1]


def test_what_somebody_else_saved_stays_with_them(world: World) -> None:
    with connect(world.url) as conn:
        gift = "select chat_session_id, body_mdx from generated_activities where id = %s"
        assert rows(conn, gift, (AKI.id("gift"),)) == [(None, "for erased")]
        assert not rows(conn, gift, (AKI.id("draft"),))
        assert value(conn, "select account_id from generated_activity_saves") is not None
        assert ("generated_activity_saves", str(BEN.id("saved_gift"))) in world.after


def test_guest_bookings_go_by_an_address_that_is_the_persons_alone(world: World) -> None:
    """The guest's spelling differs; the family's address is also that of somebody who stays."""
    scrubbed = changed(world, "form_submissions")
    assert set(scrubbed) == {str(AKI.id(what)) for what in ("booking", "guest", "family")}
    with connect(world.url) as conn:
        emails = rows(
            conn, "select email, account_id from form_submissions where id = any (%s::uuid[])", (list(scrubbed),)
        )
    assert emails == [("erased", None)] * 3


def test_counts_of_the_receipt_are_those_of_rows_that_changed(world: World) -> None:
    with connect(world.url) as conn:
        claimed = dict(
            rows(conn, "select split_part(table_name, '.', 2), sum(rows)::int from lifecycle.erasure_counts group by 1")
        )
        told = value(
            conn,
            "select sum((r ->> 'rows')::int)::int"
            "  from lifecycle.erasure_receipts, jsonb_array_elements(body -> 'rows') r",
        )
    assert told == sum(claimed.values())
    for table in {name for name, _ in world.before} - {"data_deletion_requests"}:
        assert claimed.get(table, 0) == len(changed(world, table)), table


def test_only_partitions_that_hold_the_person_are_written(make_partitioned_db: MakePartitionedDb) -> None:
    url = make_partitioned_db()
    with connect(url) as conn, plain_session(url) as worker:
        add_catalogue(conn)
        add_person(conn, AKI.name)
        ask(conn, AKI)
        conn.execute("select enqueue_deletion_jobs()")
        held = {name for (name,) in rows(conn, HELD, {"account": AKI.account, "visit": AKI.visit})}
        batch = claim(conn)
        assert step(conn, batch, "collect") == "done"
        with worker.transaction():
            assert step(worker, batch, "erase") == "done"
            assert {name for (name,) in rows(worker, WRITTEN)} == held
        assert (
            0
            < len(held)
            < value(
                conn,
                "select count(*) from pg_class where relnamespace = 'event_partitions'::regnamespace and relkind = 'r'",
            )
        )


@pytest.mark.parametrize(
    "state",
    [
        "november",
        pytest.param("december", marks=pytest.mark.every_version),
        pytest.param("december afterwards", marks=pytest.mark.every_version),
    ],
)
def test_the_generators_rows(make_application_db: MakeApplicationDb, state: str) -> None:
    """Accounts of the sample data, with whatever they have there: all verified, also when the application went on to
    December after it was migrated."""
    url = make_application_db(migrated=True, december=state == "december")
    if state == "december afterwards":
        apply_december(url)
    with connect(url) as conn:
        conn.execute(
            "insert into data_deletion_requests (account_id) select id from accounts a where status = 'active'"
            " and not exists (select from vendor_members m where m.account_id = a.id) order by id limit 5"
        )
        process(conn)
        left = rows(conn, "select state, last_error from lifecycle.deletion_jobs where state <> 'verified'")
        assert not [found for found in left if found[0] != "held"]  # the only admin of a vendor
        assert not rows(conn, "select * from lifecycle.rows_to_erase(array(select id from lifecycle.deletion_jobs))")
        assert value(conn, "select count(*) from data_deletion_requests where status = 'completed'") >= 5
        assert value(conn, "select count(*) from lifecycle.erasure_receipts") >= 5
        assert not rows(conn, "select * from lifecycle.broken_receipts()")
