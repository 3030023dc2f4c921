"""Which rows of a file name somebody: each condition chooses its rows and no other."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lifecycle.cold.columns import ColdColumn
from lifecycle.cold.files import ColdFile
from lifecycle.cold.search import KeyCondition, TextHints, conditions_within, duckdb_of, rows_with_keys, rows_with_words
from lifecycle.cold.storage import ColdStorage
from tests.cold import local_storage

COLUMNS = (
    ColdColumn("at", "timestamp with time zone", "moment in UTC"),
    ColdColumn("account", "uuid", "text"),
    ColdColumn('visit "name"', "text", "text"),
    ColdColumn("note", "text", "text"),
    ColdColumn("raw", "bytea", "bytes"),
)
VISIT = 'visit "name"'
ROWS = (
    ("a", "one", None, None),
    (None, "one", "of A@Mail.example, he knows", None),
    (None, " One ", None, b"\x00a@mail.example"),
    ("b", "two", "id 11111111-2222-4333-8444-555555555555!", b"b"),
    (None, None, "word", None),
)


@pytest.fixture
def storage(tmp_path: Path) -> ColdStorage:
    """One file, `f.parquet`, of ROWS."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    file = ColdFile(tmp_path / "file", COLUMNS, "at", {})
    table = pa.Table.from_pylist(
        [dict(zip((column.name for column in COLUMNS), (moment, *row), strict=True)) for row in ROWS]
    )
    file.write(table.to_batches()[0])
    file.close()
    storage = local_storage(tmp_path / "store")
    storage.put("f.parquet", tmp_path / "file")
    return storage


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (KeyCondition("account", ("a",)), {0}),
        (KeyCondition(VISIT, ("one",)), {0, 1}),
        (KeyCondition(VISIT, ("one",), unowned="account"), {1}),
        (KeyCondition(VISIT, ("one",), any_case=True), {0, 1, 2}),
        (KeyCondition(VISIT, ("one",), unowned="account", any_case=True), {1, 2}),
        (KeyCondition(VISIT, ()), set()),
    ],
)
def test_a_condition_chooses_its_rows(storage: ColdStorage, condition: KeyCondition, found: set[int]) -> None:
    with duckdb_of(storage) as duck:
        assert rows_with_keys(duck, storage.location("f.parquet"), [condition]) == found


def test_a_condition_follows_a_column_to_its_old_name_and_asks_for_none_that_is_newer() -> None:
    columns = (COLUMNS[0], replace(COLUMNS[1], called="person"), COLUMNS[2])
    asked = [KeyCondition(VISIT, ("x",), unowned="person"), KeyCondition("newer", ("x",))]
    assert conditions_within(asked, columns) == [KeyCondition(VISIT, ("x",), unowned="account")]
    assert conditions_within([KeyCondition(VISIT, ("x",), unowned="newer")], columns) == [KeyCondition(VISIT, ("x",))]


class Names:
    """Finds a word in texts, and remembers what it was asked."""

    def __init__(self, word: bytes) -> None:
        self.word, self.asked = word, list[bytes]()

    def found_in(self, text: bytes) -> set[int]:
        self.asked.append(text)
        return {1} if self.word in text.lower() else set()


@pytest.mark.parametrize(
    ("hints", "word", "found"),
    [
        ({"words": ("word",)}, b"?", {4}),
        ({"words": ("11111111-2222-4333-8444-555555555555",)}, b"?", {3}),
        ({"contained": ("@mail",)}, b"a@mail.example", {1, 2}),
        ({"pattern": "[@]"}, b"a@mail.example", {1, 2}),
        # Bytes are looked at whatever is asked for: nothing tells whether they are worth it.
        ({}, b"a@mail.example", {2}),
    ],
)
def test_any_text_is_searched_bytes_too(
    storage: ColdStorage, hints: dict[str, Any], word: bytes, found: set[int]
) -> None:
    asked = TextHints((), "[0-9a-f]{8}-[0-9a-f-]{27}", "-", (), None)
    with duckdb_of(storage) as duck:
        place = storage.location("f.parquet")
        assert rows_with_words(duck, place, COLUMNS, replace(asked, **hints), Names(word)) == found
