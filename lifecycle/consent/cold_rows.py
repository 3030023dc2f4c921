"""Withdrawals reach cold rows: those of people who refused are taken out of files, so that the database clears them.

Each decision is looked for once. It is noted as done when no file has come that was not looked through.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lifecycle.cold import manifest
from lifecycle.cold.columns import ColdColumn
from lifecycle.cold.manifest import ManifestFile
from lifecycle.cold.search import FILE, POSITION, duckdb_of, quoted, reading
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.sweep import remove_retired
from lifecycle.cold.tables import no_storage
from lifecycle.cold.thaw import thaw
from lifecycle.database import Connection, rows, value, without_statement_timeout

if TYPE_CHECKING:
    import duckdb

# A time column of `scrub from then on`, else null; seconds have microseconds.
WANTED: Final = """
select p.purpose, t.table_name, t.person_column,
       case p.withdrawal when 'scrub from then on' then t.time_column end
  from lifecycle.consent_tables_in_files() t join lifecycle.consent_purposes p on p.purpose = t.purpose
 order by p.position, t.position
"""
REFUSALS: Final = """
select r.person, (extract(epoch from r.since) * 1000000)::bigint, r.given
  from lifecycle.consent_purposes p cross join lateral lifecycle.refusals_not_in_files(p) r where p.purpose = %s
"""
NOTE: Final = "select lifecycle.note_refusals_in_files(%s, %s, %s, %s)"
# Files tell such times in microseconds since 1970.
MOMENTS: Final = ("moment", "moment in UTC")


@dataclass(frozen=True)
class _Refusals:
    """People who ever refused a purpose, since when (microseconds since 1970), and whether they consent now."""

    purpose: str
    people: list[str]
    since: list[int]
    given: list[bool]


@dataclass(frozen=True)
class _HeldTable:
    """A table of a purpose with whom to look for; `time` where only rows since then count."""

    name: str
    person: str
    time: str | None
    refusals: _Refusals


@dataclass
class LookedAt:
    """What was looked for in files: rows that were taken out, and files that hold none of them any more."""

    rows: int = 0
    searched: set[int] = field(default_factory=set)
    refusals: list[_Refusals] = field(default_factory=list)


def thaw_rows_of_refusing(
    conn: Connection,
    storage: ColdStorage | None,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> LookedAt:
    """Take out rows of people for whose decision no file was looked through yet, and remove the files that held them.

    RefusedError without a store when there is somebody to look for; ColdStorageError, BusyError, VerificationError as
    the parts raise them, with what was taken out by then in the database.
    """
    looked = LookedAt()
    tables = list(_held_tables(conn, looked))
    if not tables:
        return looked
    files = [file for file in manifest.all_live_files(conn) if str(file.relation) in {each.name for each in tables}]
    if storage is None:
        raise no_storage(files[0].relation)
    with duckdb_of(storage) as duck:
        for number, file in enumerate(files):
            progress(f"cold files of {file.relation} {file.month:%Y-%m}", number / len(files))
            with reading(file):
                positions = _rows_of_refusing(conn, duck, storage.location(file.key), file, tables)
            if not positions:
                looked.searched.add(file.id)
                continue
            thawed = thaw(conn, storage, file, positions)
            looked.rows += thawed.rows
            if thawed.replacement is not None:
                looked.searched.add(thawed.replacement)
    if looked.rows:
        remove_retired(conn, storage)
    return looked


def note_as_looked_at(conn: Connection, looked: LookedAt) -> None:
    """Note it for those whose decision is carried out in the database by now."""
    for each in looked.refusals:
        value(conn, NOTE, (each.purpose, each.people, each.given, sorted(looked.searched)))


def _held_tables(conn: Connection, looked: LookedAt) -> Sequence[_HeldTable]:
    by_purpose: dict[str, _Refusals] = {}
    found = []
    with without_statement_timeout(conn):
        for purpose, table, person, time in rows(conn, WANTED):
            if purpose not in by_purpose:
                refusing = rows(conn, REFUSALS, (purpose,))
                people, since, given = ([row[place] for row in refusing] for place in range(3))
                by_purpose[purpose] = _Refusals(purpose, people, since, given)
            if by_purpose[purpose].people:
                found.append(_HeldTable(table, person, time, by_purpose[purpose]))
    looked.refusals.extend(each for each in by_purpose.values() if each.people)
    return found


def _rows_of_refusing(
    conn: Connection, duck: "duckdb.DuckDBPyConnection", place: str, file: ManifestFile, tables: Sequence[_HeldTable]
) -> set[int]:
    """Positions of rows that may stand against consent; which of them do, the database decides."""
    stored = {column.now: column for column in manifest.columns_of(conn, file.layout)}
    found: set[int] = set()
    for table in (each for each in tables if each.name == str(file.relation) and each.person in stored):
        query = (
            f"select f.{POSITION} from {FILE} f"  # noqa: S608 - identifiers quoted, values bound
            " join (select unnest(?::varchar[]) person, unnest(?::bigint[]) since) k"
            f" on f.{quoted(stored[table.person].name)}::varchar = k.person{_since(table.time, stored)}"
        )
        params = [place, table.refusals.people, table.refusals.since]
        found.update(position for (position,) in duck.execute(query, params).fetchall())
    return found


def _since(time: str | None, stored: dict[str, ColdColumn]) -> str:
    if time is None or time not in stored or stored[time].stored not in MOMENTS:
        return ""
    return f" and epoch_us(f.{quoted(stored[time].name)}) >= k.since"
