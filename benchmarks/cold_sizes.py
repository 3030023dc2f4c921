"""Cold months: how much smaller the files of a month are than its partition, on made-up rows and on real data sets.

    python -m benchmarks.cold_sizes --data FOLDER --bin-dir /usr/lib/postgresql/15/bin

Each data set is an event table of its own, with the columns and indexes of the application's table for such rows. Every
month of it moves to a store in a folder. Then every month is brought back, and the rows are compared with those before.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from psycopg import sql

from benchmarks.cold_data import GENERATED, REAL, DataSet
from benchmarks.data import benchmark_server
from benchmarks.report import Report, write_json
from lifecycle.cold.due import months_to_move
from lifecycle.cold.move import move_month
from lifecycle.cold.objects import ColdSettings
from lifecycle.cold.restore import restore_month
from lifecycle.cold.status import cold_status
from lifecycle.cold.storage import ColdStorage, open_storage
from lifecycle.cold.tables import ColdTable, cold_tables
from lifecycle.database import Connection, connect_directly, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.event_tables import EventTable, EventTables
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.partitions.convert import convert_table
from lifecycle.units import size_text
from sandbox.application import create_application_database
from sandbox.generate import generate
from sandbox.real_data.files import require_files
from sandbox.real_data.material import Material
from sandbox.rows.copying import bulk_copy

# So long ago that all of it is due.
ENDED: Final = timedelta(days=70)
# How many rows there are, and the sum of a number that each has by its text.
CHECKSUM: Final = sql.SQL("""
select count(*), coalesce(sum(('x' || left(md5(t::text), 15))::bit(60)::bigint), 0)::text from {} t
""")
HEAP: Final = "select pg_table_size(format('event_partitions.%%I', %s::text)::regclass)"


@dataclass(frozen=True)
class Sizes:
    """A data set whose months moved and came back.

    Bytes of the months that hold rows, TOAST included; `heap_bytes` without indexes.
    """

    name: str
    told: str
    rows: int
    months: int
    files: int
    heap_bytes: int
    hot_bytes: int
    cold_bytes: int
    checksum: str
    checksum_after: str

    @property
    def times_smaller(self) -> float:
        return self.hot_bytes / self.cold_bytes


def declared(sets: Sequence[DataSet]) -> Application:
    """An application of these event tables and nothing else."""
    tables = {
        QualifiedName("public", each.name): EventTable(time=each.time, keep="240 months", cold_after="1 month")
        for each in sets
    }
    return Application(event_tables=EventTables(tables))


def fill(conn: Connection, each: DataSet, material: Material | None) -> None:
    """Make the table, with its rows."""
    table = sql.Identifier("public", each.name)
    conn.execute(sql.SQL("create table {} {}").format(table, sql.SQL(each.shape)))
    for columns in each.indexes:
        conn.execute(sql.SQL("create index on {} {}").format(table, sql.SQL(columns)))
    if each.lines is None:
        conn.execute(sql.SQL("insert into {} select * from {}").format(table, sql.Identifier("public", each.source)))
    else:
        assert material is not None, "a real data set without its folder"
        bulk_copy(conn, f"public.{each.name}", each.columns.split(), each.lines(material), lambda _table, _rows: None)


def checksum(conn: Connection, table: ColdTable) -> tuple[int, str]:
    """Rows, and the sum over all of them."""
    (found,) = conn.execute(CHECKSUM.format(sql.Identifier(table.relation.schema, table.relation.name))).fetchall()
    return found


def measure(url: str, each: DataSet, table: ColdTable, storage: ColdStorage, now: datetime) -> Sizes:
    """Move every month, look at the sizes, bring every month back."""
    with connect_directly(url, application_name="benchmark") as conn:
        count, before = checksum(conn, table)
        due = months_to_move(conn, table, now)
        heap = {month.month: value(conn, HEAP, (month.partition,)) for month in due}
        for month in due:
            move_month(url, table, month, storage)
        status = cold_status(conn, table, now)
        assert (status.cold_rows, checksum(conn, table)[0]) == (count, 0), f"rows of {each.name} did not leave"
        for found in status.months:
            restore_month(url, table, found.month, storage, keep_for=timedelta(days=1), now=now)
        count_after, after = checksum(conn, table)
        assert (count_after, after) == (count, before), f"rows of {each.name} came back otherwise"
        return Sizes(
            name=each.name,
            told=each.told,
            rows=count,
            months=len(status.months),
            files=sum(found.files for found in status.months),
            heap_bytes=sum(heap[found.month] for found in status.months),
            hot_bytes=status.bytes_before,
            cold_bytes=status.cold_bytes,
            checksum=before,
            checksum_after=after,
        )


def print_sizes(report: Report, title: str, sizes: Sequence[Sizes]) -> None:
    """One line a data set."""
    report.table(
        title,
        ("rows", "number", "months", "heap", "heap + indexes", "files", "heap / files", "both / files", "checksum"),
        [
            (
                each.told,
                f"{each.rows:,}",
                f"{each.months}",
                size_text(each.heap_bytes),
                size_text(each.hot_bytes),
                size_text(each.cold_bytes),
                f"{each.heap_bytes / each.cold_bytes:.1f}",
                f"{each.times_smaller:.1f}",
                "equal" if each.checksum == each.checksum_after else "[red]differs[/]",
            )
            for each in sizes
        ],
    )


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the real data sets; default: made-up rows.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Names of data sets; default: all.")] = None,
    scale: Annotated[str, typer.Option(help="How many rows to make up: small, medium, large.")] = "small",
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Print what months take as partitions and as files, for each data set."""
    if data is not None:
        require_files(data)
    report, now = Report(), datetime.now(UTC)
    sets = [each for each in (*GENERATED, *(REAL if data else ())) if only is None or each.name in only]
    if not sets:
        raise typer.BadParameter(f"name some of {', '.join(each.name for each in (*GENERATED, *REAL))} with --only")
    application = declared(sets)
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-benchmark-cold-"))
    try:
        with benchmark_server(bin_dir, durable=False) as server:
            report.step("making up rows")
            url = create_application_database(server, "sizes")
            if any(each.source for each in sets):
                generate(url, scale, now=now - ENDED, progress=lambda _table, _rows: None, skewed_clocks=False)
            material = Material(data, now - ENDED) if data else None
            with connect_directly(url, application_name="benchmark") as conn:
                for each in sets:
                    report.step(f"filling {each.name}")
                    fill(conn, each, material)
                conn.execute("analyze")
                version = rows(conn, "show server_version")[0][0].split()[0]
            report.step("migrating")
            upgrade(url, application)
            storage, sizes = open_storage(ColdSettings(url=(folder / "store").as_uri())), []
            for each, table in zip(sets, cold_tables(application), strict=True):
                report.step(each.name)
                convert_table(url, table.table, now=now, progress=lambda _message, _fraction: None)
                sizes.append(measure(url, each, table, storage, now))
            title = f"PostgreSQL {version}: partitions of whole months, and the same rows in files"
            print_sizes(report, title, sizes)
            if json is not None:
                write_json(json, title, sizes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.step("done")


if __name__ == "__main__":
    typer.run(main)
