"""Helpers for tests of cold months: an application that declares them, and where each row stands."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from lifecycle.cold import manifest
from lifecycle.cold.due import months_to_move
from lifecycle.cold.files import read_file
from lifecycle.cold.move import MonthMoved, move_month
from lifecycle.cold.objects import ColdSettings
from lifecycle.cold.storage import ColdStorage, open_storage
from lifecycle.cold.tables import ColdTable, cold_tables
from lifecycle.database import Connection, connect, rows
from lifecycle.declarations.application import Application
from lifecycle.declarations.event_tables import EventTables
from lifecycle.partitions.months import add_months, month_start
from tests.declared import APPLICATION
from tests.partitioned import BEHAVIOR

COLD_AFTER = "2 months"


def with_cold_months(application: Application = APPLICATION, **tables: str) -> Application:
    """The application with `cold_after` for these tables, by bare name; of none of the others."""
    declared = {
        name: table.model_copy(update={"cold_after": tables.get(name.name)})
        for name, table in application.event_tables.items()
    }
    return application.model_copy(update={"event_table_file": EventTables(declared)})


COLD = with_cold_months(user_behavior_events=COLD_AFTER)
EVENTS: ColdTable = cold_tables(COLD)[0]


class MakeColdDb(Protocol):
    """The fixture `make_cold_db`: URL of a fresh partitioned database in which COLD is declared, as postgres."""

    def __call__(self) -> str: ...


class Interfering:
    """A store that lets something happen when it is first asked to `at`."""

    def __init__(self, storage: ColdStorage, at: str, happens: Callable[[], object], times: int = 1) -> None:
        self._storage, self._at, self._happens, self._left = storage, at, happens, times

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        if name != self._at:
            return found

        def interfered(*args: Any) -> Any:
            if self._left:
                self._left -= 1
                self._happens()
            return found(*args)

        return interfered


def local_storage(folder: Path) -> ColdStorage:
    """A store in a folder."""
    return open_storage(ColdSettings(url=folder.as_uri()))


def now() -> datetime:
    return datetime.now(UTC)


def month(back: int) -> datetime:
    """The first instant of the month so many months ago."""
    return add_months(month_start(now()), -back)


def move_all(url: str, storage: ColdStorage, table: ColdTable = EVENTS) -> list[MonthMoved]:
    """Move every month that is old enough."""
    with connect(url) as conn:
        due = months_to_move(conn, table, now())
    return [move_month(url, table, each, storage) for each in due]


def hot_rows(conn: Connection, where: str = "true") -> set[str]:
    """Every row of the event table that stands in the database, as text."""
    return {text for (text,) in rows(conn, f"select t::text from {BEHAVIOR.qualified_name} t where {where}")}


def cold_ids(conn: Connection, storage: ColdStorage, folder: Path, table: ColdTable = EVENTS) -> list[str]:
    """The ids of all rows in live files, as often as they stand there."""
    found: list[str] = []
    for file in manifest.live_files(conn, table.relation):
        path = folder / "read.parquet"
        storage.fetch(file.stored, path)
        for batch in read_file(path, manifest.columns_of(conn, file.layout)):
            found += batch.column("id").to_pylist()
        path.unlink()
    return found


def hot_ids(conn: Connection) -> list[str]:
    """The ids of all rows in the database, those that wait in the thawed table too."""
    found = [str(each) for (each,) in rows(conn, f"select id from {BEHAVIOR.qualified_name}")]
    if rows(conn, "select to_regclass('event_partitions.user_behavior_events_thawed')")[0][0]:
        found += [str(each) for (each,) in rows(conn, "select id from event_partitions.user_behavior_events_thawed")]
    return found


def objects(folder: Path) -> list[str]:
    """Every file of a local store."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def cold_text(conn: Connection, storage: ColdStorage, folder: Path, table: ColdTable = EVENTS) -> str:
    """All values of all rows in live files."""
    found: list[str] = []
    for file in manifest.live_files(conn, table.relation):
        path = folder / "read.parquet"
        storage.fetch(file.stored, path)
        for batch in read_file(path, manifest.columns_of(conn, file.layout)):
            found += map(str, batch.to_pylist())
        path.unlink()
    return " ".join(found)
