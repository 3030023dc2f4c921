"""A copy that differs from its source stops the conversion before anything is switched over."""

from collections.abc import Callable
from datetime import datetime

import pytest
from psycopg import sql

from lifecycle.database import connect
from lifecycle.errors import VerificationError
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.months import add_months, month_start, partition_name
from lifecycle.partitions.plan import plan_conversion
from tests.conversion_load import (
    BEHAVIOUR,
    FEW_MONTHS,
    at_step,
    convert,
    fill,
    fingerprint,
    insert_event,
    leftovers,
    relation_kind,
)

# What Python decides and in which order; the statements run on both versions in the other files.
pytestmark = pytest.mark.one_server
MakeDb = Callable[..., str]
LEGACY = "event_partitions.user_behavior_events_legacy"
DAMAGE = {
    "a row lost": "delete from {0} where ctid in (select ctid from {0} limit 1)",
    "a row doubled": "insert into {0} (session_id, page_url, event_timestamp)"
    " select session_id, page_url, event_timestamp from {0} limit 1",
    "a value changed": "update {0} set page_url = page_url || '!' where ctid in (select ctid from {0} limit 1)",
    "two values exchanged": "with two as (select id, row_number() over () as n, page_url from {0} order by id limit 2)"
    " update {0} set page_url = o.page_url from two t join two o on o.n <> t.n where {0}.id = t.id",
    "emptied": "truncate {0}",
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged_copy(make_application_db: MakeDb, now: datetime, damage: str) -> None:
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=300, span=FEW_MONTHS)
    before = fingerprint(url, BEHAVIOUR)
    wrong = partition_name(BEHAVIOUR.name, add_months(month_start(now), -3))
    copy = sql.Identifier("event_partitions", wrong)

    def tamper() -> None:
        with connect(url) as other:
            assert other.execute(sql.SQL(DAMAGE[damage]).format(copy)).rowcount != 0

    with connect(url) as conn:
        with pytest.raises(VerificationError) as error:
            convert_table(url, BEHAVIOUR, now=now, progress=at_step("changes replayed", tamper))
        assert wrong in str(error.value)
        assert str(error.value).count("rows of") == 1
        assert "Drop the named tables" in str(error.value)
        assert plan_conversion(conn, BEHAVIOUR, now).state == "attached"
        assert relation_kind(url, LEGACY) == "r"
        assert fingerprint(url, BEHAVIOUR) == before

        # A rerun keeps the copies, so it finds the same difference instead of hiding it.
        with pytest.raises(VerificationError, match=wrong):
            convert(url, BEHAVIOUR, now)
        new = insert_event(conn, BEHAVIOUR, now, session="meanwhile")
        conn.execute(sql.SQL("drop table {}").format(copy))
        assert convert(url, BEHAVIOUR, now).outcome == "converted"
        conn.execute("delete from user_behavior_events where id = %s", (new,))
    assert fingerprint(url, BEHAVIOUR) == before
    assert leftovers(url) == []


def test_rows_that_change_during_the_comparison_are_no_difference(make_application_db: MakeDb, now: datetime) -> None:
    """Changes not replayed yet are left out on both sides, and applied under the lock of the exchange."""
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=300, span=FEW_MONTHS)

    def change() -> None:
        with connect(url) as other:
            insert_event(other, BEHAVIOUR, now, session="meanwhile")
            other.execute("update user_behavior_events set page_url = '/later' where session_id = 's3'")
            other.execute("delete from user_behavior_events where session_id = 's4'")

    convert_table(url, BEHAVIOUR, now=now, progress=at_step("changes replayed", change))
    with connect(url) as conn:
        counts = conn.execute(
            "select count(*) filter (where session_id = 'meanwhile'), count(*) filter (where page_url = '/later'),"
            " count(*) filter (where session_id = 's4') from user_behavior_events"
        ).fetchone()
    assert counts == (1, 8, 0)
    assert leftovers(url) == []
