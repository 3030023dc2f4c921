"""Which rows of a file name somebody: by a key in a column, or by a word in any text.

DuckDB reads the columns that are asked for, and no others.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from lifecycle.cold.columns import TEXT, ColdColumn
from lifecycle.cold.manifest import ManifestFile
from lifecycle.cold.storage import ColdStorage
from lifecycle.errors import ColdStorageError

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS: Final = 10_000
POSITION: Final = "file_row_number"
FILE: Final = f"read_parquet(?, {POSITION} = true)"


@dataclass(frozen=True)
class KeyCondition:
    """Rows whose `column` holds one of the keys, as text; with `unowned` only those where that column is empty. With
    `any_case` the keys are in lower case, and the column is compared so, without spaces around it."""

    column: str
    keys: tuple[str, ...]
    unowned: str | None = None
    any_case: bool = False


class Finder(Protocol):
    """Who stands in a text, exactly (erasures/compressed.py)."""

    def found_in(self, text: bytes) -> set[int]: ...


@dataclass(frozen=True)
class TextHints:
    """What a text is asked for before it is read closely.

    `words`: in lower case, looked for where they stand alone, and as ids inside of texts. `id_pattern` and `id_hint`:
    of an id, and what none is without. `contained`: what any other word holds; `pattern`: what one looks like, where
    nothing is held by all.
    """

    words: tuple[str, ...]
    id_pattern: str
    id_hint: str
    contained: tuple[str, ...]
    pattern: str | None = None


def quoted(name: str) -> str:
    """An identifier as DuckDB takes it."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def duckdb_of(storage: ColdStorage) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A DuckDB in memory that reads what `storage.location()` names, moments in UTC."""
    import duckdb

    with closing(duckdb.connect()) as duck:
        duck.execute("set timezone = 'UTC'")
        storage.prepare_duckdb(duck)
        yield duck


@contextmanager
def reading(file: ManifestFile) -> Iterator[None]:
    """ColdStorageError where DuckDB cannot read a file. DuckDB's own words are left out: they may hold a credential."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise ColdStorageError(
            f"{file.key}: cannot be read ({type(error).__name__}). See that the store answers; `lifecycle cold verify` "
            "says which files differ."
        ) from None


def conditions_within(conditions: Iterable[KeyCondition], columns: Iterable[ColdColumn]) -> list[KeyCondition]:
    """The conditions that rows of a file with these columns can meet: in a column that is newer, they hold nothing."""
    held = {column.now: column.name for column in columns}
    return [
        replace(each, column=held[each.column], unowned=held.get(each.unowned) if each.unowned else None)
        for each in conditions
        if each.column in held
    ]


def rows_with_keys(conn: "duckdb.DuckDBPyConnection", place: str, conditions: Sequence[KeyCondition]) -> set[int]:
    """Positions of rows that a condition chooses. Only the columns that are named are read."""
    found: set[int] = set()
    for condition in conditions:
        if not condition.keys:
            continue
        query = f"select {POSITION} from {FILE} where {_chosen(condition)}"  # noqa: S608 - identifiers quoted, values bound
        found.update(row for (row,) in conn.execute(query, [place, list(condition.keys)]).fetchall())
    return found


def _chosen(condition: KeyCondition) -> str:
    held = f"{quoted(condition.column)}::varchar"
    compared = f"lower(trim({held}))" if condition.any_case else held
    unowned = f" and {quoted(condition.unowned)} is null" if condition.unowned else ""
    return f"{compared} in (select unnest(?::varchar[])){unowned}"


def values_of_rows(
    conn: "duckdb.DuckDBPyConnection", place: str, condition: KeyCondition, column: str
) -> Iterator[str]:
    """What the rows that a condition chooses hold in another column, as text, each once."""
    if not condition.keys:
        return
    query = (
        f"select distinct {quoted(column)}::varchar from read_parquet(?)"  # noqa: S608 - identifiers quoted, values bound
        f" where {_chosen(condition)} and {quoted(column)} is not null"
    )
    for (held,) in conn.execute(query, [place, list(condition.keys)]).fetchall():
        yield held


def rows_with_words(
    conn: "duckdb.DuckDBPyConnection", place: str, columns: Sequence[ColdColumn], hints: TextHints, finder: Finder
) -> set[int]:
    """Positions of rows in any text of which somebody stands.

    Whole values and ids are compared at once; texts with a hint of anything else are looked at closely.
    """
    read = [column for column in columns if column.stored in (TEXT, "bytes")]
    texts = [column for column in read if column.stored == TEXT]
    if not texts:
        return _looked_at_closely(conn, place, read, hints, finder)
    words = list(hints.words)
    whole = " or ".join(f"lower({quoted(each.name)}) in (select unnest($words::varchar[]))" for each in texts)
    query = f"select {POSITION} from read_parquet($place, {POSITION} = true) where {whole}"  # noqa: S608
    found = {row for (row,) in conn.execute(query, {"words": words, "place": place}).fetchall()}
    # What is an id by its type was compared as a whole.
    if inside := [quoted(each.name) for each in texts if each.type != "uuid"]:
        hinted = " or ".join(f"regexp_matches({name}, $hint)" for name in inside)
        query = (
            f"select {POSITION} from ("  # noqa: S608
            f"select {POSITION}, unnest(regexp_extract_all(lower(concat_ws(chr(31), {', '.join(inside)})), $id)) word"
            f" from read_parquet($place, {POSITION} = true) where {hinted}"
            ") where word in (select unnest($words::varchar[]))"
        )
        params = {"words": words, "place": place, "hint": hints.id_hint, "id": hints.id_pattern}
        found.update(row for (row,) in conn.execute(query, params).fetchall())
    return found | _looked_at_closely(conn, place, read, hints, finder)


def _looked_at_closely(
    conn: "duckdb.DuckDBPyConnection", place: str, read: Sequence[ColdColumn], hints: TextHints, finder: Finder
) -> set[int]:
    asked: list[str] = []
    params: list[str] = []
    for column in read:
        name = quoted(column.name)
        if column.stored == "bytes":
            asked.append(f"{name} is not null")
            continue
        for part in hints.contained:
            # Signs have no capitals.
            asked.append(f"contains({name}, ?)" if part.upper() == part else f"contains(lower({name}), ?)")
            params.append(part)
        if hints.pattern:
            asked.append(f"regexp_matches({name}, ?)")
            params.append(hints.pattern)
    if not asked:
        return set()
    names = ", ".join(quoted(column.name) for column in read)
    result = conn.execute(
        f"select {POSITION}, {names} from {FILE} where {' or '.join(asked)}",  # noqa: S608
        [place, *params],
    )
    found: set[int] = set()
    while batch := result.fetchmany(BATCH_ROWS):
        for position, *values in batch:
            if any(finder.found_in(_bytes(held)) for held in values if held is not None):
                found.add(position)
    return found


def _bytes(held: str | bytes) -> bytes:
    return held.encode() if isinstance(held, str) else held
