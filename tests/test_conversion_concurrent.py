"""Conversion under concurrent writers and readers: no row lost, doubled or ever invisible, no statement refused."""

import time
from collections.abc import Callable
from datetime import datetime

import pytest
from psycopg import sql

from lifecycle.database import connect, value
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.tables import MonthlyTable
from tests.conversion_load import BEHAVIOUR, REPLAY, fill, leftovers
from tests.conversion_traffic import (
    Traffic,
    api_insert,
    delete_accounts,
    insert_update_delete,
    long_transactions,
    read_in_one_snapshot,
    read_known_rows,
    running,
)

KNOWN = """
create view known_view as select * from {0} where session_id = 'known';
create materialized view known_matview as select * from {0} where session_id = 'known'
"""
UNTOUCHED = """
select count(*), sum(hashtextextended((to_jsonb(t) - 'account_id')::text, 0)) from {} t where session_id <> 'traffic'
"""
ACCOUNTS_GONE = "select count(*) from user_behavior_events where account_id = any (%s::uuid[])"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("table", [BEHAVIOUR, REPLAY], ids=lambda table: table.name)
def test_conversion_under_load(
    make_application_db: Callable[..., str],
    now: datetime,
    table: MonthlyTable,
    record_property: Callable[[str, object], None],
) -> None:
    url = make_application_db(rows=False, migrated=True)
    fill(url, table, now, count=4000)
    relation = sql.Identifier(table.name)
    with connect(url) as conn:
        conn.execute(sql.SQL(KNOWN).format(relation))
        untouched = conn.execute(sql.SQL(UNTOUCHED).format(relation)).fetchone()
        traffic = Traffic(url, table, now)
        workers = [insert_update_delete, api_insert, long_transactions, read_known_rows, read_in_one_snapshot]
        if table is BEHAVIOUR:
            workers.append(delete_accounts)
        with running(traffic, *workers):
            # A pause after each step gives the traffic its share of every state in between.
            result = convert_table(url, table, now=now, progress=lambda _message, _fraction: time.sleep(0.03))

        assert traffic.errors == []
        assert result.outcome == "converted"
        text = sql.SQL("select id, {} from {} where session_id = 'traffic'").format(traffic.text_column, relation)
        found = conn.execute(text).fetchall()
        assert len(found) == len(traffic.written)
        assert dict(found) == traffic.written
        assert conn.execute(sql.SQL(UNTOUCHED).format(relation)).fetchone() == untouched
        if table is BEHAVIOUR:
            assert len(traffic.deleted_accounts) >= 10
            assert value(conn, ACCOUNTS_GONE, (traffic.deleted_accounts,)) == 0
    assert leftovers(url) == []
    assert traffic.reads > 30
    assert traffic.writes > 100
    figures = {
        "longest_write_ms": round(traffic.longest_write * 1000, 1),
        "longest_read_ms": round(traffic.longest_read * 1000, 1),
        "longest_lock_ms": result.longest_lock_ms,
        "writes": traffic.writes,
        "reads": traffic.reads,
    }
    for name, figure in figures.items():
        record_property(name, figure)
    print(f"{table.name} under load: {figures}")  # noqa: T201 - the stall is to be reported
    assert traffic.longest_write < 5
    assert traffic.longest_read < 5
