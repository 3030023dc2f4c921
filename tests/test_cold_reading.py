"""Hot and cold rows read as one: a table of every kind of column answers the same before its months move and after."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lifecycle.cold.connect import ColdReader
from lifecycle.cold.connect import connect as connect_reader
from lifecycle.cold.storage import ColdStorage
from lifecycle.database import connect, rows
from lifecycle.partitions.months import add_months
from tests.cold import local_storage, month, move_all, objects
from tests.cold_reading import ODD, exact, make_odd_table, odd_application, odd_table
from tests.conftest import MakeApplicationDb

APPLICATION = odd_application()
TABLE = odd_table(APPLICATION)
ALL = f'select * from {ODD} order by "when", id'
CONDITIONS = (
    "id = '00000001-0000-4000-8000-000000000004'",
    "feeling = 'it''s \"odd\"'",
    'tags = \'{a,NULL,"NULL","b c","d\\"e",""}\'',
    "address = '10.0.0.1/32'",
    "\"Document B\"->>'b' = '1'",
    "price < -1 and ratio > 1",
    "free is not null and free < 1",
    'isnan("double precision") or single < 1e-44 and single > 0',
    "code = 'ab' and words like '%漢字%'",
    "\"when\" >= '2001-01-01' and day < '1000-01-01' and local > '1999-01-01'",
    "raw = '\\x00\\xFF\\x5C\\x27'::blob and flag",
    "words = ''",
    "big = -9223372036854775808 and doubled = -4611686018427387904",
)


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    url = make_application_db(rows=False, migrated=True)
    make_odd_table(url, APPLICATION)
    return url


@pytest.fixture
def storage(tmp_path: Path) -> ColdStorage:
    return local_storage(tmp_path / "cold")


@pytest.fixture
def reader(url: str, storage: ColdStorage) -> Iterator[ColdReader]:
    with connect_reader(url, APPLICATION, storage) as reader:
        yield reader


def answers(reader: ColdReader) -> list[Any]:
    """Types, all rows, and how many each condition finds."""
    counts = ", ".join(f"(select count(*) from {ODD} where {condition})" for condition in CONDITIONS)
    return [
        reader.query(f"select column_name, column_type from (describe {ODD})").rows(),
        exact(reader.query(ALL).rows()),
        reader.query(f"select {counts}").rows(),
    ]


def test_no_answer_changes_when_months_move(url: str, storage: ColdStorage, reader: ColdReader) -> None:
    before = answers(reader)
    (counts,) = before[2]
    assert all(counts), dict(zip(CONDITIONS, counts, strict=True))
    assert [moved.rows for moved in move_all(url, storage, TABLE)] == [3, 3, 3]
    assert answers(reader) == before
    with connect(url) as conn:
        assert rows(conn, f"select count(*) from {ODD}") == [(9,)]
        for setting in ("intervalstyle = 'iso_8601'", "datestyle = 'German'", "timezone = 'Asia/Tokyo'"):
            conn.execute(f"alter role current_user in database {conn.info.dbname} set {setting}")
        conn.execute(f"alter role current_user in database {conn.info.dbname} set extra_float_digits = -10")
    assert answers(reader) == before


def test_what_is_shown_is_what_stands_in_the_database(url: str, reader: ColdReader) -> None:
    shown = reader.query(ALL).arrow()
    native = [
        "id",
        "when",
        "local",
        "day",
        "whole",
        "number",
        "big",
        "flag",
        "words",
        "name",
        "price",
        "ratio",
        "doubled",
    ]
    texts = [
        "clock",
        "lasts",
        "code",
        "document",
        '"Document B"',
        "feeling",
        "tags",
        "numbers",
        "moods",
        "grid",
        "address",
    ]
    texts += ["lives", "during", "bits", "called"]
    with connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        conn.execute("set intervalstyle = 'postgres'")
        order = 'order by "when", id'
        columns = ", ".join(f'"{name}"' for name in native)
        told = rows(conn, f"select {columns} from {ODD} {order}")
        as_text = rows(conn, f"select {', '.join(f'{name}::text' for name in texts)} from {ODD} {order}")
        doubles = rows(conn, f'select "double precision", single, free::float8 from {ODD} {order}')
    assert [tuple(row[name] for name in native) for row in shown.to_pylist()] == [
        (str(row[0]), *row[1:]) for row in told
    ]
    plain = [name.strip('"') for name in texts]
    assert [tuple(row[name] for name in plain) for row in shown.to_pylist()] == as_text
    assert exact([(row["double precision"], row["free"]) for row in shown.to_pylist()]) == exact(
        [(double, free) for double, _, free in doubles]
    )
    assert str(shown.column("single")[0]) == "-0.0"


def test_columns_come_and_go_between_months(url: str, storage: ColdStorage, reader: ColdReader) -> None:
    move_all(url, storage, TABLE)
    before = reader.query(ALL).arrow()
    with connect(url) as conn:
        conn.execute(f"alter table {ODD} add column later text default 'new'")
        conn.execute(f"alter table {ODD} drop column number")
        conn.execute(f"alter table {ODD} alter column whole type bigint")
        conn.execute(f"update {ODD} set later = 'hot' where flag")
    after = reader.query(ALL).arrow()
    kept = [name for name in before.column_names if name != "number"]
    assert after.column_names == [*kept, "later"]
    assert exact(after.select(kept).drop_columns("whole").to_pylist()) == exact(
        before.select(kept).drop_columns("whole").to_pylist()
    )
    assert after.column("whole").to_pylist() == before.column("whole").to_pylist()
    assert str(after.schema.field("whole").type) == "int64"
    assert after.column("later").to_pylist() == [None] * 9 + ["hot", "new", "new"] * 3
    # A month that goes later has the column in its files, with the value that PostgreSQL shows of it.
    with connect(url) as conn:
        conn.execute("update lifecycle.event_table_policies set cold_after = '1 month' where table_name = 'Odd Events'")
    assert len(move_all(url, storage, TABLE)) == 1
    assert exact(reader.query(ALL).arrow().to_pylist()) == exact(after.to_pylist())


def test_duckdb_alone_reads_the_folder(url: str, storage: ColdStorage, reader: ColdReader, tmp_path: Path) -> None:
    whole = reader.query(f'select id::text, "when", big, words, price::text from {ODD} order by 2, 1').rows()
    move_all(url, storage, TABLE)
    assert len(objects(tmp_path / "cold")) == 3
    with duckdb.connect() as alone:
        alone.execute("set timezone = 'UTC'")
        place = str(tmp_path / "cold" / "*" / "*" / "*.parquet")
        found = alone.execute(
            'select id, "when", big, words, price from read_parquet(?) order by 2, 1', [place]
        ).fetchall()
    assert found == whole[:9]


def test_a_range_is_a_dataframe_of_its_months(url: str, storage: ColdStorage, reader: ColdReader) -> None:
    move_all(url, storage, TABLE)
    start, end = month(4), add_months(month(4), 2)
    frame = reader.frame("Odd Events", start, end, ["id", "when", "big", "flag"])
    assert list(frame.columns) == ["id", "when", "big", "flag"]
    assert str(frame["big"].dtype) == "Int64"
    assert frame["big"].min() == -(2**63)
    assert (len(frame), int(frame["big"].isna().sum())) == (6, 4)
    assert set(frame["when"]) == {back.replace(day=2, microsecond=1) for back in (month(4), month(3))}
