"""Files of cold months in another program's hands: PySpark reads the rows that PostgreSQL had."""

import math
import os
from pathlib import Path
from typing import Any

import pytest

from lifecycle.database import connect, rows
from tests.cold import local_storage, move_all
from tests.cold_reading import ODD, make_odd_table, odd_application, odd_table
from tests.conftest import MakeApplicationDb

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

NATIVE = ("whole", "number", "big", "flag", "single", "double precision", "words", "name", "doubled")
TEXTS: tuple[str, ...] = (
    "id",
    "price",
    "ratio",
    "free",
    "clock",
    "code",
    "called",
    "document",
    "Document B",
    "feeling",
    "tags",
    "numbers",
)
TEXTS += ("moods", "grid", "address", "lives", "during", "bits")


def comparable(row: Any) -> tuple[object, ...]:
    """NaN as a word, 0 and -0 apart."""
    return tuple(
        (math.copysign(1, value), "nan" if math.isnan(value) else value) if isinstance(value, float) else value
        for value in row
    )


def test_spark_reads_what_postgresql_had(
    make_application_db: MakeApplicationDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = odd_application()
    url = make_application_db(rows=False, migrated=True)
    make_odd_table(url, application)
    names = ", ".join(f'"{name}"' + ("::float8" if name == "single" else "") for name in NATIVE)
    texts = ", ".join(f'"{name}"::text' for name in TEXTS)
    with connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        stands = rows(
            conn,
            f"""select {names}, {texts}, (extract(epoch from "when") * 1000000)::bigint, local::text, day::text,
                       encode(raw, 'hex')
                  from {ODD} where "when" < date_trunc('month', now() at time zone 'UTC') at time zone 'UTC'
                       - interval '2 months' order by "when", id""",
        )
    moved = move_all(url, local_storage(tmp_path / "cold"), odd_table(application))
    assert sum(each.rows for each in moved) == len(stands) == 9
    monkeypatch.setitem(os.environ, "SPARK_LOCAL_IP", "127.0.0.1")

    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.driver.bindAddress", "127.0.0.1")
    spark = builder.getOrCreate()
    try:
        frame = spark.read.parquet(str(tmp_path / "cold" / "*" / "*" / "*.parquet"))
        columns = [f"`{name}`" for name in (*NATIVE, *TEXTS)]
        found = frame.selectExpr(
            *columns, "unix_micros(`when`)", "string(local)", "string(day)", "lower(hex(raw))", "`when`"
        ).orderBy("when", "id")
        read = [tuple(row)[:-1] for row in found.collect()]
    finally:
        spark.stop()
    assert [comparable(row) for row in read] == [comparable(row) for row in stands]
