"""Everything of a person goes, in every table of the map, and nothing of anybody else."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lifecycle.database import connect, rows, value
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conftest import MakeApplicationDb
from tests.partitioned import MakePartitionedDb, plain_session
from tests.people import (
    EXEMPT,
    Person,
    Picture,
    add_booking,
    add_catalogue,
    add_person,
    add_visit,
    claim,
    insert,
    job,
    picture,
    process,
    request,
    step,
    traces,
)

pytest_plugins = ("tests.partitioned_fixtures",)

SHARED = "sess_shared_77"
FAMILY = "family@mail.example"
PER_DAY = """
select event_timestamp::date, count(*), sum((revenue_metrics ->> 'amount')::int) from business_metrics_events group by 1
 union all
select event_timestamp::date, count(*), sum((engagement ->> 'timeOnPage')::int) from user_behavior_events group by 1
"""
BUSINESS_RECORD = """
select v.id, v.voucher_code, v.valid_from, v.valid_until, v.max_redemptions, v.redemptions_used, v.created_at,
       r.id, r.vendor_member_id, r.scanned_at, f.booking_date, f.status, f.country, f.activity_id, f.created_at
  from vouchers v join voucher_redemptions r on r.voucher_id = v.id join form_submissions f on f.id = v.form_submission_id
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
 union select tableoid::regclass::text from business_metrics_events where account_id = %(account)s or session_id = %(visit)s
 union select tableoid::regclass::text from session_replay_events where session_id = %(visit)s
"""


@dataclass(frozen=True)
class World:
    """Before and after the erasure of aki, who shares a browser session with ben; `others` as they stood without aki."""

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
    templates: Callable[[bool, bool, bool], str],
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
        conn.execute("select refresh_derived_statistics()")
        conn.execute("refresh materialized view daily_user_behavior_summary")
        conn.execute("refresh materialized view top_search_keywords")
        assert len(rows(conn, STATISTICS, {"account": AKI.account})) >= 4
        before, per_day, records = picture(conn), sorted(rows(conn, PER_DAY)), sorted(rows(conn, BUSINESS_RECORD))
        statistics = sorted(rows(conn, STATISTICS, {"account": BEN.account}))
        asked = request_of(conn)
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


request_of = lambda conn: request(conn, AKI)  # noqa: E731
