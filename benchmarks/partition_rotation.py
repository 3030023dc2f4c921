"""Make new months and drop old ones under load: this project's rotation against none and against pg_partman's.

    python -m benchmarks.partition_rotation --bin-dir /usr/lib/postgresql/15/bin

Each case starts from a copy of a partitioned database that lacks two months ahead and holds three partitions past
retention, and runs quietly or behind a SELECT on the parent that lasts 20 seconds.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.data import TABLE, benchmark_server, copy_database, create_filled_database, describe
from benchmarks.declared import APPLICATION, EVENTS
from benchmarks.load import Effect, Load
from benchmarks.observe import Cost, observed
from benchmarks.peers import install_partman, partman_available, partman_maintenance, partman_partitioned
from benchmarks.report import Report, milliseconds, write_json
from lifecycle.database import connect_directly, value
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.months import add_months, month_start
from lifecycle.partitions.rotate import rotate
from sandbox.application import drop_database
from sandbox.server import SUPERUSER, Server

# As many months as retention keeps, and three more.
MONTHS: Final = 28
# So long ago the table was converted and rotated last: two months ahead are missing, and two and what was before
# them are past retention since.
MONTHS_SINCE: Final = 2
READER_SECONDS: Final = 20.0
BASELINE_SECONDS: Final = 15.0
DATABASE: Final = "benchmark"
LONG_READ: Final = (
    "select count(*), pg_sleep(%s) from (select 1 from public.user_behavior_events where event_timestamp > '2000-01-01'"
    " limit 100) few"
)
PARTITIONS: Final = "select count(*) from pg_inherits where inhparent = to_regclass(%s)"


class Rotation(StrEnum):
    """Who rotates; the words are those of the printed table."""

    NONE = "none (baseline)"
    LIFECYCLE = "lifecycle"
    PG_PARTMAN = "pg_partman"


@dataclass(frozen=True)
class Measurement:
    """One case. `under_reader`: behind the long SELECT; `partitions`: their number before and after."""

    rotation: Rotation
    under_reader: bool
    seconds: float
    partitions: tuple[int, int]
    failure: str | None
    effect: Effect
    cost: Cost


def _prepare(server: Server, rotation: Rotation, filled: str, now: datetime) -> str:
    """Make the partitioned database that the cases of one rotation start from; returns its name."""
    name = f"{filled}_{rotation.name.lower()}"
    url = copy_database(server, filled, name)
    if rotation is Rotation.PG_PARTMAN:
        install_partman(server.url(name, user=SUPERUSER))
        partman_partitioned(url, add_months(month_start(now), 1 - MONTHS), EVENTS.retention)
    else:
        upgrade(url, APPLICATION)
        earlier = add_months(month_start(now), -MONTHS_SINCE)
        convert_table(url, EVENTS, now=earlier, progress=lambda *_: None)
    return name


@contextmanager
def _long_reader(url: str) -> Iterator[None]:
    """A SELECT on the parent that began a second ago and lasts; the block's end waits for it."""
    begun = threading.Event()

    def read() -> None:
        with connect_directly(url, application_name="benchmark long reader") as conn:
            begun.set()
            conn.execute(LONG_READ.encode(), (READER_SECONDS,))

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait()
    time.sleep(1.0)
    try:
        yield
    finally:
        reader.join()


def _operation(rotation: Rotation, url: str, now: datetime) -> str | None:
    """Rotate once; returns why it failed, if it did."""
    match rotation:
        case Rotation.NONE:
            time.sleep(BASELINE_SECONDS)
        case Rotation.PG_PARTMAN:
            partman_maintenance(url)
        case Rotation.LIFECYCLE:
            with connect_directly(url, application_name="benchmark rotation") as conn:
                return next((action.error for action in rotate(conn, EVENTS, now) if action.error), None)
    return None


def measure(server: Server, rotation: Rotation, template: str, under_reader: bool, now: datetime) -> Measurement:
    """Run one case on a fresh copy under the load."""
    url = copy_database(server, template, DATABASE)
    with connect_directly(url, application_name="benchmark") as conn:
        before = value(conn, PARTITIONS, (TABLE,))
    with Load(url) as load:
        if under_reader:
            with _long_reader(url), observed(url) as observer:
                failure = _operation(rotation, url, now)
        else:
            with observed(url) as observer:
                failure = _operation(rotation, url, now)
        record = load.finish()
    with connect_directly(url, application_name="benchmark") as conn:
        after = value(conn, PARTITIONS, (TABLE,))
    drop_database(server, DATABASE)
    cost = observer.cost
    effect = record.effect(cost.first, cost.last)
    return Measurement(rotation, under_reader, round(cost.seconds, 3), (before, after), failure, effect, cost)


def _print(report: Report, title: str, measurements: list[Measurement]) -> None:
    columns = (
        "rotation", "beside", "took", "partitions", "longest writer stall", "longest insert", "longest update by id",
        "p99", "writes refused", "WAL",
    )  # fmt: skip
    report.table(
        title,
        columns,
        [
            (
                m.rotation.value,
                f"a {READER_SECONDS:.0f} s reader" if m.under_reader else "nothing",
                "-" if m.rotation is Rotation.NONE else milliseconds(m.seconds * 1000),
                f"{m.partitions[0]} -> {m.partitions[1]}",
                milliseconds(m.effect.stall_ms),
                milliseconds(m.effect.insert_ms),
                milliseconds(m.effect.update_ms),
                milliseconds(m.effect.p99_ms),
                f"{sum(m.effect.errors.values()):,}",
                f"{m.cost.wal_bytes / 1e6:,.1f} MB",
            )
            for m in measurements
        ],
    )
    for m in measurements:
        for message, times in m.effect.errors.items():
            report.line(f"{m.rotation.value}: {times:,} x {message}")
        if m.failure:
            report.line(f"{m.rotation.value} failed: {m.failure}")


def _print_aims(report: Report, measurements: list[Measurement]) -> None:
    stalls = {(m.rotation, m.under_reader): m.effect.stall_ms for m in measurements}
    ours = stalls[Rotation.LIFECYCLE, True]
    for other in (Rotation.NONE, Rotation.PG_PARTMAN):
        if (other, True) in stalls:
            report.line(
                f"longest writer stall under the reader, lifecycle / {other.value}: "
                f"{milliseconds(ours)} / {milliseconds(stalls[other, True])}"
            )
    report.aim("longest writer stall under the reader below 80 ms", ours < 80)
    cases = [m for m in measurements if m.rotation is Rotation.LIFECYCLE]
    report.aim("every rotation succeeds, no write refused", not any(m.failure or m.effect.errors for m in cases))


def main(
    rows: Annotated[int, typer.Option(help="Rows in the table, spread over 28 months.")] = 800_000,
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Measure each rotation, quietly and under the reader, and print one table and whether the aims hold."""
    now, report, measurements = datetime.now(UTC), Report(), []
    with benchmark_server(bin_dir) as server:
        report.step(f"filling the template with {rows:,} rows")
        url = create_filled_database(server, "filled", rows, MONTHS, now)
        title = f"Rotating user_behavior_events: {rows:,} rows, {describe(url)}"
        rotations = list(Rotation)
        if not partman_available(url):
            rotations.remove(Rotation.PG_PARTMAN)
            report.line("pg_partman: skipped, version 4 is not installed for this server (postgresql-15-partman)")
        for rotation in rotations:
            report.step(f"partitioning for {rotation.value}")
            template = _prepare(server, rotation, "filled", now)
            for under_reader in (False, True):
                report.step(f"measuring {rotation.value}{', under the reader' if under_reader else ''}")
                measurements.append(measure(server, rotation, template, under_reader, now))
            drop_database(server, template)
        report.step("done")
    _print(report, title, measurements)
    _print_aims(report, measurements)
    if json:
        write_json(json, title, measurements)


if __name__ == "__main__":
    typer.run(main)
