"""Views as DataFrames: the lines of docs/how-to/use-statistics-as-dataframes.md and what they promise."""

import subprocess
import sys
from typing import Any

import dagster as dg
import pandas as pd
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from lifecycle.errors import RefusedError
from orchestration.definitions import build_definitions
from resources import dataframes
from resources.dataframes import DataFrames
from resources.variables import URL_VARIABLE
from tests.conftest import MakeApplicationDb
from tests.docs_pages import ROOT, blocks

pytestmark = pytest.mark.one_server

PAGE = ROOT / "docs/how-to/use-statistics-as-dataframes.md"
KEYWORDS = ["public", "top_search_keywords"]
SUMMARY = dg.AssetKey(["public", "daily_user_behavior_summary"])
# What November has of the declared ones, and a table of ours.
LOADED = (
    ("public", "account_function_usage"),
    ("public", "daily_user_behavior_summary"),
    ("public", "top_search_keywords"),
    ("lifecycle", "storage_history"),
)


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


def loaded(key: dg.AssetKey | list[str], **options: Any) -> pd.DataFrame:
    """What an analyst gets through the loader, which takes ranges."""
    with build_definitions().get_asset_value_loader() as loader:
        frame = loader.load_asset_value(key, **options)
    assert isinstance(frame, pd.DataFrame)
    return frame


@pytest.mark.every_version
def test_the_lines_of_the_page_run(url: str) -> None:
    """As a script of an analyst, in an interpreter of its own."""
    code = "\n".join(blocks(PAGE, "python"))
    script = f"{code}\nprint(len(keywords), list(few.columns), len(few))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        env={URL_VARIABLE: url, "PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    keywords, summary = count(url, *KEYWORDS), count(url, *SUMMARY.path)
    assert done.stdout.split("\n")[-2] == f"{keywords} ['event_date', 'event_count'] {summary}"


def test_every_asset_with_a_table_loads_with_its_columns_and_rows(url: str) -> None:
    fetch(url, "select count(*) from lifecycle.record_storage()")
    definitions = build_definitions()
    for schema, name in LOADED:
        frame = definitions.load_asset_value([schema, name])
        assert isinstance(frame, pd.DataFrame)
        assert list(frame.columns) == columns_of(url, f"{schema}.{name}")
        assert len(frame) == count(url, schema, name) > 0, name


def test_values_are_those_of_sql(url: str) -> None:
    frame = loaded(KEYWORDS)
    found = fetch(url, "select search_query, search_count, unique_users from top_search_keywords")
    rows = [
        tuple(row) for row in frame[["search_query", "search_count", "unique_users"]].to_numpy(dtype=object).tolist()
    ]
    assert sorted(rows) == sorted(found)
    assert str(frame["last_searched_at"].dtype) == "datetime64[us, UTC]"
    summary = loaded(SUMMARY)
    assert float(summary["avg_click_count"].max()) == float(
        fetch(url, "select max(avg_click_count) from daily_user_behavior_summary")[0][0]
    )


def test_an_empty_view_gives_its_columns(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("truncate search_queries")
        conn.execute("refresh materialized view top_search_keywords")
    frame = loaded(KEYWORDS)
    assert (list(frame.columns), len(frame)) == (columns_of(url, "public.top_search_keywords"), 0)


def test_what_is_not_there_is_named(url: str) -> None:
    with pytest.raises(
        RefusedError, match=r"public\.top_search_keywords has no mau; it has search_query, search_count"
    ):
        loaded(KEYWORDS, input_definition_metadata={"columns": ["search_query", "mau"]})
    with pytest.raises(RefusedError, match=r"top_search_keywords has no partitions"):
        loaded(KEYWORDS, partition_key="2026-11-20")
    assert fetch(url, "select 1") == [(1,)]


def test_too_many_rows_are_refused(url: str) -> None:
    whole = count(url, *SUMMARY.path)
    for most, refused in ((whole - 1, True), (whole, False)):
        definitions = build_definitions(dataframes=DataFrames(url=url, most_rows=most))
        if refused:
            with pytest.raises(RefusedError, match=rf"more than {most:,} rows here; load some columns"):
                definitions.load_asset_value(SUMMARY)
        else:
            frame = definitions.load_asset_value(SUMMARY)
            assert isinstance(frame, pd.DataFrame)
            assert len(frame) == whole


def test_without_a_database_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    with pytest.raises(dg.Failure, match=f"{URL_VARIABLE} is not set.*for example"):
        build_definitions().load_asset_value(KEYWORDS)


def test_rows_arrive_in_chunks(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor is the server's: what pandas holds of a chunk is all that is in memory beside the result."""
    monkeypatch.setattr(dataframes, "CHUNK_ROWS", 100)
    read, sizes = pd.read_sql, []
    # One for the rows, one for this question.
    cursors = text("select count(*) from pg_cursors")

    def counted(*args: Any, **options: Any) -> Any:
        for frame in read(*args, **options):
            sizes.append(len(frame))
            assert args[1].execute(cursors).scalar() == 2
            yield frame

    monkeypatch.setattr(dataframes.pd, "read_sql", counted)
    frame = loaded(SUMMARY)
    assert max(sizes) == 100
    assert sum(sizes) == len(frame) == count(url, *SUMMARY.path)


def test_reading_cannot_write(url: str) -> None:
    """A view that writes when it is read is refused by the transaction."""
    with psycopg.connect(url) as conn:
        conn.execute("create table touched (at timestamptz)")
        conn.execute(
            "create function touch() returns bigint language sql as 'insert into touched values (now()) returning 1'"
        )
        conn.execute("drop materialized view top_search_keywords")
        conn.execute("create view top_search_keywords as select touch() as search_count")
    with pytest.raises(pd.errors.DatabaseError, match="read-only transaction"):
        loaded(KEYWORDS)
    assert fetch(url, "select count(*) from touched") == [(0,)]
