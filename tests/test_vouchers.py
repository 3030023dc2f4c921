"""Vouchers past retention: which are deleted, which are kept, and what the ledger says."""

from uuid import UUID

import psycopg
import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import RefreshError
from lifecycle.expiry.delete import ExpiryRun, delete_expired
from lifecycle.migrating.migrate import upgrade
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

JOB = "delete_expired_vouchers"

MAKE = """
with form as (insert into form_submissions (email) values ('a@example.org') returning id)
insert into vouchers (form_submission_id, voucher_code, created_at, valid_until)
select id, %(code)s, (now() at time zone 'UTC' + %(made)s::interval) at time zone 'UTC',
       case when %(until)s = 'infinity' then 'infinity'::timestamptz
            else (now() at time zone 'UTC' + %(until)s::interval) at time zone 'UTC' end
  from form returning id
"""
OLD, JUST_OLD, JUST_KEPT = "-40 months", "-36 months -1 minute", "-36 months 5 minutes"
# code -> made, valid until, redeemed
KEPT = {
    "young": (JUST_KEPT, None, ()),
    "valid": (OLD, "1 day", ()),
    "ended lately": (OLD, JUST_KEPT, ()),
    "valid for ever": (OLD, "infinity", ()),
    "redeemed lately": (OLD, OLD, (OLD, JUST_KEPT)),
}
GONE = {
    "ended": (OLD, JUST_OLD, ()),
    "without an end": (JUST_OLD, None, ()),
    "redeemed long ago": (OLD, JUST_OLD, (OLD, JUST_OLD)),
}


def make(conn: Connection, code: str, made: str, until: str | None, redeemed: tuple[str, ...]) -> UUID:
    voucher: UUID = value(conn, MAKE, {"code": code, "made": made, "until": until})
    for moment in redeemed:
        conn.execute(
            "insert into voucher_redemptions (voucher_id, scanned_at)"
            " values (%s, (now() at time zone 'UTC' + %s::interval) at time zone 'UTC')",
            (voucher, moment),
        )
    return voucher


@pytest.fixture
def db(make_application_db: MakeApplicationDb) -> str:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        for code, voucher in {**KEPT, **GONE}.items():
            make(conn, code, *voucher)
    return url


def delete_expired_vouchers(conn: Connection, batch: int | None = None) -> ExpiryRun:
    return delete_expired(conn, JOB, batch=batch)


def codes(conn: Connection) -> set[str]:
    return {code for (code,) in rows(conn, "select voucher_code from vouchers")}


def test_a_voucher_goes_when_its_end_its_making_and_its_last_redemption_are_past(db: str) -> None:
    with connect(db) as conn:
        run = delete_expired_vouchers(conn, batch=1)
        assert codes(conn) == set(KEPT)
        assert run.deleted == {"vouchers": len(GONE), "voucher_redemptions": 3}
        # The old redemption of a voucher that is kept goes, too.
        assert value(conn, "select count(*) from voucher_redemptions") == 1
        told = rows(
            conn,
            "select sum((payload ->> 'vouchers')::int)::int, sum((payload ->> 'voucher_redemptions')::int)::int,"
            " count(*)::int, array_agg(distinct event_type)"
            "  from audit_events where entity_id = 'delete_expired_vouchers'",
        )
        assert told == [(len(GONE), 3, run.batches, ["job_success"])]


def test_psql_needs_no_argument(db: str) -> None:
    with psycopg.connect(db, autocommit=True) as conn:
        found = conn.execute("select redemptions, vouchers, outcome, error from delete_expired_vouchers()").fetchall()
        assert found == [(3, 3, "success", None)]
        policy = conn.execute("select keep_for::text, batch from lifecycle.expiring_rows where job = %s", (JOB,))
        assert policy.fetchone() == ("3 years", APPLICATION.expiring_rows[JOB].batch)
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            conn.execute("select delete_expired_vouchers(0)")


def test_one_that_is_being_redeemed_is_waited_for_by_nobody(db: str) -> None:
    with connect(db) as conn, psycopg.connect(db) as scanner:
        ended = value(conn, "select id from vouchers where voucher_code = 'ended'")
        scanner.execute("insert into voucher_redemptions (voucher_id) values (%s)", (ended,))
        conn.execute("set lock_timeout = '1s'")
        delete_expired_vouchers(conn)
        assert codes(conn) == {*KEPT, "ended"}
        scanner.commit()
        delete_expired_vouchers(conn)
        assert codes(conn) == {*KEPT, "ended"}


def test_a_failure_deletes_nothing_and_is_heard_of(db: str) -> None:
    with connect(db) as conn:
        conn.execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$"
        )
        conn.execute("create trigger refuse before delete on vouchers for each row execute function refuse()")
        with pytest.raises(RefreshError, match="batch 1: no"):
            delete_expired_vouchers(conn)
        assert codes(conn) == {*KEPT, *GONE}
        assert value(conn, "select count(*) from voucher_redemptions") == 4
        assert rows(conn, "select job, error from lifecycle.open_problems") == [("delete_expired_vouchers", "no")]


def test_what_the_declarations_say_is_what_goes(db: str) -> None:
    """Another time, tables by other names and keys; what is not declared any more deletes nothing."""
    with connect(db) as conn:
        conn.execute("""create schema "Other";
            create table "Other"."Slips" ("No" int primary key, "Ends" date, "Made" timestamp not null);
            create table "Other".stubs (slip int);
            insert into "Other"."Slips" select n, current_date - n, now() at time zone 'UTC' - n * interval '1 day'
              from generate_series(1, 10) n;
            insert into "Other"."Slips" values (11, null, '-infinity'), (12, 'infinity', '-infinity');
            insert into "Other".stubs values (9)""")
        declared = APPLICATION.model_validate({"expiry": {"drop_slips": {"keep": "5 days", "batch": 4, "tables": {
            '"Other"."Slips"': {"time": ["Made", "Ends"], "unless_referenced_by": {'"Other".stubs': "slip"}},
            '"Other".never': {"time": ["at"], "optional": True}}}}})  # fmt: skip
        upgrade(db, declared)
        run = delete_expired(conn, "drop_slips")
        assert (run.deleted, run.batches) == ({"Slips": 6}, 3)
        assert [no for (no,) in rows(conn, 'select "No" from "Other"."Slips" order by 1')] == [1, 2, 3, 4, 9, 12]
        with pytest.raises(psycopg.errors.RaiseException, match="no job delete_expired_vouchers is declared"):
            delete_expired_vouchers(conn)
        assert codes(conn) == {*KEPT, *GONE}
