"""Statistics as DataFrames: the lines of docs/how-to/use-statistics-as-dataframes.md and what they promise."""

import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from lifecycle.errors import RefusedError
from lifecycle.statistics import ROLL_UPS, STATISTICS
from lifecycle.views.materialized import REFRESHED_VIEWS
from orchestration.definitions import build_definitions
from resources import dataframes
from resources.dataframes import DataFrames
from resources.variables import URL_VARIABLE
from tests.conftest import MakeApplicationDb
from tests.docs_pages import ROOT, blocks

pytestmark = pytest.mark.one_server

PAGE = ROOT / "docs/how-to/use-statistics-as-dataframes.md"
DAU = ["public", "daily_active_users"]
SESSIONS = dg.AssetKey(["lifecycle", "account_session_days"])


@pytest.fixture
def url(make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch) -> str:
    url = make_application_db(migrated=True)
    monkeypatch.setenv(URL_VARIABLE, url)
    return url


def fetch(url: str, query: str | sql.Composed, params: Any = None) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        return conn.execute(query.encode() if isinstance(query, str) else query, params).fetchall()


def columns_of(url: str, relation: str) -> list[str]:
    query = """select attname::text from pg_attribute
                where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum"""
    return [name for (name,) in fetch(url, query, (relation,))]


def count(url: str, schema: str, name: str) -> int:
    (row,) = fetch(url, sql.SQL("select count(*) from {}").format(sql.Identifier(schema, name)))
    return int(row[0])


def days_with_rows(url: str) -> list[date]:
    """UTC days of the last month that have rows, oldest first."""
    query = (
        "select distinct day from lifecycle.account_session_days where day between current_date - 30 and current_date"
    )
    return [day for (day,) in fetch(url, f"{query} order by 1")]


def loaded(key: dg.AssetKey | list[str], **options: Any) -> pd.DataFrame:
    """What an analyst gets through the loader, which takes ranges."""
    with build_definitions().get_asset_value_loader() as loader:
        frame = loader.load_asset_value(key, **options)
    assert isinstance(frame, pd.DataFrame)
    return frame


def test_the_lines_of_the_page_run(url: str) -> None:
    """As a script of an analyst, in an interpreter of its own, with the last days that have rows."""
    days = days_with_rows(url)
    code = "\n".join(blocks(PAGE, "python"))
    assert code.count("2026-11-20") >= 2
    shown = {"2026-11-14": days[-5].isoformat(), "2026-11-20": days[-2].isoformat()}
    code = re.sub("|".join(shown), lambda found: shown[found[0]], code)
    script = f"{code}\nprint(len(users), len(day), len(week), list(few.columns), len(months))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        env={URL_VARIABLE: url, "PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ((users, day, week),) = fetch(
        url,
        """select (select count(*) from public.daily_active_users),
                  (select count(*) from lifecycle.account_session_days where day = %(last)s),
                  (select count(*) from lifecycle.account_session_days where day between %(first)s and %(last)s)""",
        {"first": days[-5], "last": days[-2]},
    )
    assert week > day > 0
    months = count(url, "public", "weekly_monthly_active_users")
    assert done.stdout.split("\n")[-2] == f"{users} {day} {week} ['date', 'dau'] {months}"


def test_every_asset_loads_with_its_columns_and_rows(url: str) -> None:
    statistics = ("public", (*REFRESHED_VIEWS, *(statistic.name for statistic in STATISTICS)))
    definitions = build_definitions()
    for schema, names in (statistics, ("lifecycle", [roll_up.name for roll_up in ROLL_UPS])):
        for name in names:
            frame = definitions.load_asset_value([schema, name])
            assert isinstance(frame, pd.DataFrame)
            assert list(frame.columns) == columns_of(url, f"{schema}.{name}")
            assert len(frame) == count(url, schema, name) > 0, name


def test_values_are_those_of_sql(url: str) -> None:
    frame = loaded(DAU)
    found = fetch(url, "select date, dau, new_users, returning_users from daily_active_users")
    frame["date"] = frame["date"].dt.date
    rows = [tuple(row) for row in frame.to_numpy(dtype=object).tolist()]
    assert sorted(rows) == sorted(found)
    latency = loaded(["public", "chat_performance_metrics"])
    assert str(latency["hour"].dtype) == "datetime64[us, UTC]"
    assert float(latency["p95_latency_ms"].max()) == float(
        fetch(url, "select max(p95_latency_ms) from chat_performance_metrics")[0][0]
    )


def test_a_partition_is_its_day(url: str) -> None:
    day = days_with_rows(url)[-2]
    for name, start, end in (
        ("account_session_days", day, day + timedelta(days=1)),
        ("data_quality_hourly", datetime(day.year, day.month, day.day, tzinfo=UTC), None),
    ):
        frame = build_definitions().load_asset_value(["lifecycle", name], partition_key=day.isoformat())
        column = "day" if name == "account_session_days" else "hour"
        query = sql.SQL("select count(*) from {} where {} >= %s and {} < %s").format(
            sql.Identifier("lifecycle", name), sql.Identifier(column), sql.Identifier(column)
        )
        assert isinstance(frame, pd.DataFrame)
        ((expected,),) = fetch(url, query, (start, end or start + timedelta(days=1)))
        assert len(frame) == expected > 0
        assert {moment.date() for moment in frame[column]} == {day}


def test_a_range_is_its_days_in_order(url: str) -> None:
    days = days_with_rows(url)[-4:-1]
    span = dg.PartitionKeyRange(days[0].isoformat(), days[-1].isoformat())
    frame = loaded(SESSIONS, partition_key_range=span, input_definition_metadata={"columns": ["day", "session_id"]})
    assert list(frame.columns) == ["day", "session_id"]
    query = "select count(*) from lifecycle.account_session_days where day between %s and %s"
    assert len(frame) == fetch(url, query, (days[0], days[-1]))[0][0]
    assert frame["day"].is_monotonic_increasing
    assert {moment.date() for moment in frame["day"]} == set(days)


def test_an_empty_table_gives_its_columns(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("delete from lifecycle.daily_active_users")
    frame = loaded(DAU)
    assert (list(frame.columns), len(frame)) == (columns_of(url, "public.daily_active_users"), 0)


def test_what_is_not_there_is_named(url: str) -> None:
    with pytest.raises(RefusedError, match=r"public\.daily_active_users has no mau; it has date, dau, new_users"):
        loaded(DAU, input_definition_metadata={"columns": ["date", "mau"]})
    with pytest.raises(RefusedError, match=r"daily_active_users has no partitions"):
        loaded(DAU, partition_key="2026-11-20")
    with pytest.raises(RefusedError, match=r"account_session_days has no such partition"):
        loaded(SESSIONS, partition_key="2136-11-20")
    assert fetch(url, "select 1") == [(1,)]


def test_too_many_rows_are_refused(url: str) -> None:
    whole = count(url, "lifecycle", SESSIONS.path[-1])
    for most, refused in ((whole - 1, True), (whole, False)):
        definitions = build_definitions(dataframes=DataFrames(url=url, most_rows=most))
        if refused:
            with pytest.raises(RefusedError, match=rf"more than {most:,} rows here; load some partitions"):
                definitions.load_asset_value(SESSIONS)
        else:
            frame = definitions.load_asset_value(SESSIONS)
            assert isinstance(frame, pd.DataFrame)
            assert len(frame) == whole


def test_without_a_database_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    with pytest.raises(dg.Failure, match=f"{URL_VARIABLE} is not set.*for example"):
        build_definitions().load_asset_value(DAU)


def test_rows_arrive_in_chunks(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor is the server's: what pandas holds of a chunk is all that is in memory beside the result."""
    monkeypatch.setattr(dataframes, "CHUNK_ROWS", 500)
    read, sizes = pd.read_sql, []
    # One for the rows, one for this question.
    cursors = text("select count(*) from pg_cursors")

    def counted(*args: Any, **options: Any) -> Any:
        for frame in read(*args, **options):
            sizes.append(len(frame))
            assert args[1].execute(cursors).scalar() == 2
            yield frame

    monkeypatch.setattr(dataframes.pd, "read_sql", counted)
    frame = loaded(SESSIONS)
    assert max(sizes) == 500
    assert sum(sizes) == len(frame) == count(url, "lifecycle", SESSIONS.path[-1])


def test_reading_cannot_write(url: str) -> None:
    """A view that writes when it is read is refused by the transaction."""
    with psycopg.connect(url) as conn:
        conn.execute("create table touched (at timestamptz)")
        conn.execute(
            "create function touch() returns bigint language sql as 'insert into touched values (now()) returning 1'"
        )
        conn.execute(
            "create or replace view hourly_usage_patterns as select day_of_week, hour_of_day, touch() as"
            " message_count, session_count, unique_users from lifecycle.hourly_usage_patterns"
        )
    with pytest.raises(pd.errors.DatabaseError, match="read-only transaction"):
        loaded(["public", "hourly_usage_patterns"])
    assert fetch(url, "select count(*) from touched") == [(0,)]
