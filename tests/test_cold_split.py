"""Rows are split by person and sorted, at once or in pieces, and none is lost or doubled."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from lifecycle.cold import split
from lifecycle.cold.split import SplitRows, bucket_of

START = datetime(2026, 1, 1, tzinfo=UTC)
BUCKETS = 4


def batch(first: int) -> pa.RecordBatch:
    """Forty rows, the latest first: of ten people, of visits without a person, and of nobody."""
    numbers = range(first, first + 40)
    return pa.record_batch(
        {
            "id": pa.array(numbers, pa.int64()),
            "person": [f"person {n % 10}" if n % 4 else None for n in numbers],
            "visit": [f"visit {n}" if n % 8 else None for n in numbers],
            "at": pa.array([START - timedelta(seconds=n) for n in numbers], pa.timestamp("us", "UTC")),
        }
    )


@pytest.mark.parametrize(("in_memory", "known"), [(2**20, 1000), (2**20, 1), (0, 1000)])
def test_a_file_has_its_people_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int, known: int
) -> None:
    monkeypatch.setattr(split, "IN_MEMORY", in_memory)
    monkeypatch.setattr(split, "MOST_KNOWN", known)
    batches = [batch(0), batch(40), batch(80)]
    rows = SplitRows(tmp_path, batches[0].schema, ("person", "visit"), "at", BUCKETS)
    for each in batches:
        rows.add(each)
    assert list(tmp_path.iterdir()) == []  # what waits has no name
    seen = []
    buckets = []
    for bucket, parts in rows.files():
        found = pa.Table.from_batches(parts).to_pylist()
        people = [(row["person"] or row["visit"] or "", row["at"]) for row in found]
        # What is more than memory may hold is sorted in pieces, here one for each batch.
        descents = sum(later < earlier for earlier, later in pairwise(people))
        assert descents == 0 if in_memory else 0 < descents < len(batches)
        assert {bucket_of(person, BUCKETS) for person, _ in people} == {bucket}
        seen += found
        buckets.append(bucket)
    rows.close()
    assert buckets == sorted(set(buckets))
    assert sorted(seen, key=lambda row: row["id"]) == [row for each in batches for row in each.to_pylist()]
