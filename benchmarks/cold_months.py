"""Cold months: what it costs to move, read, erase and bring back, against PostgreSQL doing the same.

    python -m benchmarks.cold_months --bin-dir /usr/lib/postgresql/15/bin

One database, rows spread evenly over 15 months, of which twelve move to a store in a folder. CPU seconds are those of
the server and of the client together.
"""

import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from psycopg import sql

from benchmarks.data import benchmark_server, create_filled_database, describe
from benchmarks.declared import APPLICATION
from benchmarks.report import Report, megabytes, milliseconds, write_json
from lifecycle.cold.columns import read_columns
from lifecycle.cold.connect import connect as connect_cold
from lifecycle.cold.due import months_to_move
from lifecycle.cold.export import Export, buckets_for, export_files, export_of, figures_by_bucket
from lifecycle.cold.files import figures_of_file
from lifecycle.cold.move import move_month
from lifecycle.cold.objects import ColdSettings
from lifecycle.cold.restore import restore_month
from lifecycle.cold.status import cold_status
from lifecycle.cold.storage import ColdStorage, open_storage
from lifecycle.cold.tables import ColdTable, cold_tables
from lifecycle.database import connect_directly, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.event_tables import EventTables
from lifecycle.erasures.run import erase_batch
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.convert import convert_table
from sandbox.server import Server

MONTHS: Final = 15
COLD: Final = 12
TIMES: Final = 3
TICKS: Final = os.sysconf("SC_CLK_TCK")
EVENTS_PER_DAY: Final = """
select event_timestamp::date as day, count(*) from public.user_behavior_events
 where event_timestamp >= '{first}' and event_timestamp < '{last}' group by 1 order by 1
"""
ASK: Final = """
insert into data_deletion_requests (account_id, request_reason)
select a.id, 'benchmark' from accounts a left join data_deletion_requests r on r.account_id = a.id
 where r.id is null order by md5(a.id::text) limit %s
"""
AIM_CPU: Final = 2.5
AIM_MEMORY: Final = 600 * 2**20
AIM_SECONDS: Final = {1: 10.0, 100: 30.0}


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock, and CPU seconds of server and client together."""

    seconds: float
    cpu: float

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.cpu + other.cpu)


def application_with_cold_months() -> Application:
    """The shipped declarations with twelve cold months of the benchmark's table, and nobody's views in the way."""
    declared = {
        name: table.model_copy(update={"cold_after": "2 months" if name.name == "user_behavior_events" else None})
        for name, table in APPLICATION.event_tables.items()
    }
    return APPLICATION.model_copy(update={"event_table_file": EventTables(declared)})


def server_cpu(server: Server) -> float:
    """CPU seconds of the server since its start: of its processes, and of those that have ended.

    One that ends while they are added up would count twice or never, so they are added up again then.
    """
    while True:
        ended, own = _stat(server.pid)
        running = [fields for folder in Path("/proc").iterdir() if (fields := _child_of(server.pid, folder))]
        if _stat(server.pid)[0] == ended:
            return (ended + own + sum(sum(map(int, fields[11:13])) for fields in running)) / TICKS


def _stat(pid: int) -> tuple[int, int]:
    """Ticks of a process's children that have ended, and of its own."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[13:15])), sum(map(int, fields[11:13]))


def _child_of(pid: int, folder: Path) -> list[str]:
    if not folder.name.isdecimal():
        return []
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return fields if int(fields[1]) == pid else []


def spent(server: Server, work: Callable[[], object]) -> Spent:
    """What some work takes; memory of what it leaves is not counted."""
    before, client, started = server_cpu(server), time.process_time(), time.perf_counter()
    work()
    return Spent(time.perf_counter() - started, server_cpu(server) - before + time.process_time() - client)


def least(server: Server, work: Callable[[], object]) -> Spent:
    """The run that took the least CPU. What is loaded once, such as libraries, is no part of it."""
    return min((spent(server, work) for _ in range(TIMES)), key=lambda took: took.cpu)


def copy_to_client(url: str, relation: str) -> None:
    """Binary COPY of a relation, thrown away here: what any export has to do at least."""
    query = f"copy {relation} to stdout (format binary)".encode()
    with connect_directly(url, application_name="benchmark") as conn, conn.cursor().copy(query) as copy:
        for _ in copy:
            pass


def best(work: Callable[[], object], times: int = 3) -> float:
    """Milliseconds of the fastest run."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append((time.perf_counter() - started) * 1000)
    return min(found)


def move_oldest(url: str, folder: Path, peaks: "multiprocessing.SimpleQueue[int]") -> None:
    """Move the oldest month that is due; puts the most memory that this process held, in bytes."""
    table = cold_tables(application_with_cold_months())[0]
    with connect_directly(url, application_name="benchmark") as conn:
        due = months_to_move(conn, table, datetime.now(UTC))
    move_month(url, table, due[0], open_storage(ColdSettings(url=folder.as_uri())))
    peaks.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def move_in_its_own_process(url: str, folder: Path) -> tuple[float, int]:
    """Move the oldest month; CPU seconds and peak memory (bytes) of the process that did it, its start included."""
    context = multiprocessing.get_context("spawn")
    peaks = context.SimpleQueue()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = context.Process(target=move_oldest, args=(url, folder, peaks))
    process.start()
    process.join()
    assert process.exitcode == 0, "moving a month failed; its traceback is above"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peaks.get()


class Measured:
    """One database whose months move; every step prints what it found."""

    def __init__(self, server: Server, report: Report, count: int, folder: Path) -> None:
        self.server, self.report, self.count, self.folder = server, report, count, folder
        self.now = datetime.now(UTC)
        self.figures: dict[str, float] = {}
        report.step(f"filling {count:,} rows over {MONTHS} months")
        self.url = create_filled_database(server, "cold", count, MONTHS, self.now)
        self.application = application_with_cold_months()
        report.step("migrating and converting")
        upgrade(self.url, self.application)
        self.table: ColdTable = cold_tables(self.application)[0]
        convert_table(self.url, self.table.table, now=self.now, progress=lambda _message, _fraction: None)
        # Views see cold rows, too, once the table is partitioned.
        upgrade(self.url, self.application)
        self.storage: ColdStorage = open_storage(ColdSettings(url=(folder / "store").as_uri()))
        self.title = describe(self.url)

    def export(self) -> None:
        """The oldest month by binary COPY to a client, then moved: exported, stored, fetched, compared and dropped."""
        with connect_directly(self.url, application_name="benchmark") as conn:
            due = months_to_move(conn, self.table, self.now)
            relation = sql.Identifier("event_partitions", due[0].partition)
            place = relation.as_string(conn)
            count, size = rows(conn, f"select count(*), pg_table_size('{place}') from {place}")[0]
            columns = read_columns(conn, self.table.relation)
            export = export_of(conn, self.table, relation, columns, buckets_for(count, size))
        folder = self.folder / "exported"
        folder.mkdir()
        copied = least(self.server, lambda: copy_to_client(self.url, place))
        exported = least(self.server, lambda: self.export_only(export, folder))
        compared = least(self.server, lambda: self.compare(relation, export, folder))
        before = server_cpu(self.server)
        started = time.perf_counter()
        client, memory = move_in_its_own_process(self.url, self.folder / "store")
        seconds = time.perf_counter() - started
        cpu = server_cpu(self.server) - before + client
        self.report.table(
            f"Moving one month of {count:,} rows in {export.buckets} files (least of {TIMES}, but the move)",
            ("way", "CPU", "/ COPY", "time", "peak memory of the client"),
            [
                (name, f"{took.cpu:.2f} s", f"{took.cpu / copied.cpu:.2f}", f"{took.seconds:.2f} s", memory_told)
                for name, took, memory_told in (
                    ("binary COPY to a client", copied, "-"),
                    ("export: read, split, sorted, written", exported, "-"),
                    ("verification: partition and files added up", compared, "-"),
                    ("export and verification", exported + compared, "-"),
                    ("the whole move, in a process of its own", Spent(seconds, cpu), megabytes(memory)),
                )
            ],
        )
        self.report.aim(f"export at most {AIM_CPU} times the CPU of COPY", exported.cpu / copied.cpu <= AIM_CPU)
        self.report.aim("memory under 600 MB", memory < AIM_MEMORY)
        self.figures |= {"cpu_of_copy": copied.cpu, "cpu_of_export": exported.cpu, "cpu_of_move": cpu}
        self.figures |= {"cpu_of_verification": compared.cpu, "peak_memory": memory}

    def export_only(self, export: Export, folder: Path) -> None:
        """The partition's rows as files."""
        for _ in export_files(self.url, export, folder, {}):
            pass

    def compare(self, relation: sql.Identifier, export: Export, folder: Path) -> None:
        """Count and checksum of every file, and of the partition's rows once more."""
        with connect_directly(self.url, application_name="benchmark") as conn:
            wanted = figures_by_bucket(conn, self.table, relation, export.columns, export.buckets)
        found = {int(path.stem): figures_of_file(path, export.columns) for path in folder.iterdir()}
        assert found == wanted, "the files hold other rows than the partition"

    def reads(self, where: str, person: str) -> dict[str, float]:
        """One person's history and events per day over the twelve months, by the reader of hot and cold."""
        with connect_cold(self.url, self.application, self.storage) as reader:
            history = best(lambda: reader.of_person("user_behavior_events", "account_id", person).rows())
            per_day = best(lambda: reader.query(self.per_day()).rows())
        return {f"history_{where}": history, f"per_day_{where}": per_day}

    def per_day(self) -> str:
        first = self.now - timedelta(days=31 * (MONTHS - 1))
        return EVENTS_PER_DAY.format(first=f"{first:%Y-%m-01}", last=f"{self.now - timedelta(days=100):%Y-%m-01}")

    def reads_of_postgresql(self, person: str) -> dict[str, float]:
        with connect_directly(self.url, application_name="benchmark") as conn:
            history = best(lambda: rows(conn, "select * from user_behavior_events where account_id = %s", (person,)))
            per_day = best(lambda: rows(conn, self.per_day()))
        return {"history_hot": history, "per_day_hot": per_day}

    def move_the_others(self) -> None:
        """Every other month that is due, one after the other."""
        with connect_directly(self.url, application_name="benchmark") as conn:
            due = months_to_move(conn, self.table, self.now)
        for each in due:
            move_month(self.url, self.table, each, self.storage)
        with connect_directly(self.url, application_name="benchmark") as conn:
            status = cold_status(conn, self.table, self.now)
        ratio = status.bytes_before / status.cold_bytes
        self.report.line(
            f"{len(status.months)} months: {megabytes(status.bytes_before)} in the database, "
            f"{megabytes(status.cold_bytes)} in files: {ratio:.1f} times smaller (generated rows)"
        )
        self.figures |= {"months": len(status.months), "times_smaller": ratio}

    def erase(self, people: int) -> None:
        """Erase people from all cold months and the database, receipts included."""
        with connect_directly(self.url, application_name="benchmark") as conn:
            conn.execute(ASK.encode(), (people,))
            conn.execute("select public.enqueue_deletion_jobs()")
            started = time.perf_counter()
            batch = erase_batch(conn, storage=self.storage)
            seconds = time.perf_counter() - started
        assert batch is not None
        assert batch.verified == people, batch.failed
        cold = batch.seconds.get("cold", 0.0)
        self.report.line(
            f"erasing {people}: {seconds:.1f} s, of which cold files {cold:.1f} s ({batch.cold.files} files searched, "
            f"{batch.cold.rewritten} written anew, {batch.cold.rows:,} rows taken out)"
        )
        self.report.aim(
            f"{people} erased from {COLD} cold months under {AIM_SECONDS[people]:.0f} s", seconds < AIM_SECONDS[people]
        )
        self.figures |= {f"erase_{people}": seconds, f"erase_{people}_cold": cold}

    def restore(self) -> None:
        """The largest month comes back."""
        with connect_directly(self.url, application_name="benchmark") as conn:
            month = max(cold_status(conn, self.table, self.now).months, key=lambda each: each.rows)
        took = spent(
            self.server,
            lambda: restore_month(
                self.url, self.table, month.month, self.storage, keep_for=timedelta(days=1), now=self.now
            ),
        )
        self.report.line(f"bringing {month.rows:,} rows back: {took.seconds:.1f} s, {took.cpu:.1f} s of CPU")
        self.figures |= {"restore_seconds": took.seconds, "restore_rows": month.rows}


def main(
    count: Annotated[int, typer.Option("--rows", help="Rows, spread over 15 months.")] = 5_000_000,
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Measure moving, size, reading, erasing and restoring, and print whether the aims hold."""
    report = Report()
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-benchmark-cold-"))
    try:
        with benchmark_server(bin_dir) as server:
            measured = Measured(server, report, count, folder)
            report.line(f"Cold months of user_behavior_events: {count:,} rows, {measured.title}")
            with connect_directly(measured.url, application_name="benchmark") as conn:
                person = str(
                    value(conn, "select account_id from user_behavior_events where account_id is not null limit 1")
                )
            hot = measured.reads_of_postgresql(person)
            report.step("moving one month")
            measured.export()
            report.step("moving the others")
            measured.move_the_others()
            report.step("reading")
            cold = measured.reads("cold", person)
            report.table(
                "Reading twelve months",
                ("what", "PostgreSQL, all hot", "hot and cold together", "cold / hot"),
                [
                    (
                        name,
                        milliseconds(hot[f"{key}_hot"]),
                        milliseconds(cold[f"{key}_cold"]),
                        f"{cold[f'{key}_cold'] / hot[f'{key}_hot']:.2f}",
                    )
                    for name, key in (("one person's history", "history"), ("events per day", "per_day"))
                ],
            )
            for people in AIM_SECONDS:
                report.step(f"erasing {people}")
                measured.erase(people)
            report.step("restoring")
            measured.restore()
            if json is not None:
                write_json(json, measured.title, [measured.figures | hot | cold])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.step("done")


if __name__ == "__main__":
    typer.run(main)
