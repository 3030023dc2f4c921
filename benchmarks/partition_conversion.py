"""Turn a busy event table into monthly partitions: this project against what one would do instead.

    python -m benchmarks.partition_conversion --bin-dir /usr/lib/postgresql/15/bin

Every approach starts from a copy of one filled database and runs under the same load.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.audit import Audit, audit
from benchmarks.data import TABLE, benchmark_server, copy_database, create_filled_database, describe, known_hours
from benchmarks.declared import APPLICATION, EVENTS
from benchmarks.load import Effect, Load
from benchmarks.observe import Cost, observed
from benchmarks.peers import install_partman, partman_available, partman_offline, single_transaction
from benchmarks.report import Report, megabytes, milliseconds, write_json
from lifecycle.database import connect_directly, value
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.convert import convert_table
from sandbox.application import drop_database
from sandbox.server import SUPERUSER, Server

MONTHS: Final = 30
BASELINE_SECONDS: Final = 30.0
TEMPLATE: Final = "benchmark_template"
DATABASE: Final = "benchmark"
PARTITIONS: Final = "select count(*) from pg_inherits where inhparent = to_regclass(%s)"


class Approach(StrEnum):
    """What is measured; the words are those of the printed table."""

    BASELINE = "baseline"
    LIFECYCLE = "lifecycle"
    SINGLE_TRANSACTION = "single-transaction"
    PG_PARTMAN = "pg_partman"


@dataclass(frozen=True)
class Measurement:
    """One approach. `partitions`: how many there are afterwards; `steps`: seconds since the start at which each step of
    the conversion ended, and its message."""

    approach: Approach
    seconds: float
    effect: Effect
    cost: Cost
    audit: Audit
    partitions: int
    steps: list[tuple[float, str]] = field(default_factory=list)


def _operation(approach: Approach, url: str, now: datetime, step: Callable[[str, float], None]) -> None:
    match approach:
        case Approach.BASELINE:
            time.sleep(BASELINE_SECONDS)
        case Approach.LIFECYCLE:
            convert_table(url, EVENTS, now=now, progress=step)
        case Approach.SINGLE_TRANSACTION:
            single_transaction(url, MONTHS, now)
        case Approach.PG_PARTMAN:
            partman_offline(url)


def measure(server: Server, approach: Approach, count: int, now: datetime) -> Measurement:
    """Run one approach on a fresh copy under the load."""
    url = copy_database(server, TEMPLATE, DATABASE)
    # What is installed ahead of time is no part of the conversion.
    if approach is Approach.LIFECYCLE:
        upgrade(url, APPLICATION)
    elif approach is Approach.PG_PARTMAN:
        install_partman(server.url(DATABASE, user=SUPERUSER))
    steps: list[tuple[float, str]] = []
    with Load(url, known_hours(url, MONTHS, now)) as load:
        with observed(url) as observer:
            _operation(approach, url, now, partial(_note, steps, time.monotonic()))
        record = load.finish()
    cost = observer.cost
    with connect_directly(url, application_name="benchmark") as conn:
        partitions = value(conn, PARTITIONS, (TABLE,))
    assert bool(partitions) != (approach is Approach.BASELINE), f"{approach.value}: {partitions} partitions"
    result = Measurement(
        approach=approach,
        seconds=round(cost.seconds, 2),
        effect=record.effect(cost.first, cost.last),
        cost=cost,
        audit=audit(url, record, count),
        partitions=partitions,
        steps=steps,
    )
    drop_database(server, DATABASE)
    return result


def _note(steps: list[tuple[float, str]], started: float, message: str, _: float) -> None:
    steps.append((round(time.monotonic() - started, 2), message))


def _print(report: Report, title: str, measurements: list[Measurement]) -> None:
    columns = (
        "approach", "total", "partitions", "longest writer stall", "p99", "writes refused", "updates unmatched",
        "reads short", "view reads wrong", "rows lost", "doubled", "updates lost", "WAL", "extra disk, peak",
        "left behind",
    )  # fmt: skip
    report.table(
        title,
        columns,
        [
            (
                m.approach.value,
                "-" if m.approach is Approach.BASELINE else f"{m.seconds:.1f} s",
                f"{m.partitions}",
                milliseconds(m.effect.stall_ms),
                milliseconds(m.effect.p99_ms),
                f"{sum(m.effect.errors.values()):,}",
                f"{m.effect.unmatched_updates:,}",
                f"{m.effect.short_reads:,} of {m.effect.reads:,}",
                f"{m.effect.wrong_view_reads:,} of {m.effect.view_reads:,}",
                f"{m.audit.lost:,}",
                f"{m.audit.doubled:,}",
                f"{m.audit.updates_lost:,}",
                megabytes(m.cost.wal_bytes),
                megabytes(m.cost.disk_peak),
                megabytes(m.cost.disk_left),
            )
            for m in measurements
        ],
    )
    for m in measurements:
        for message, times in m.effect.errors.items():
            report.line(f"{m.approach.value}: {times:,} x {message}")


def _print_aims(report: Report, measurements: list[Measurement]) -> None:
    found = {m.approach: m for m in measurements}
    ours, partman = found.get(Approach.LIFECYCLE), found.get(Approach.PG_PARTMAN)
    single, baseline = found.get(Approach.SINGLE_TRANSACTION), found.get(Approach.BASELINE)
    if ours is None:
        return
    ratio = ours.seconds / partman.seconds if partman else None
    if ratio is not None:
        report.line(f"total, lifecycle / pg_partman: {ratio:.2f}")
    if single:
        report.line(f"total, lifecycle / single transaction: {ours.seconds / single.seconds:.2f}")
    if baseline:
        report.line(
            f"longest writer stall, lifecycle / baseline: {milliseconds(ours.effect.stall_ms)} / "
            f"{milliseconds(baseline.effect.stall_ms)}"
        )
    before = [message for at, message in ours.steps if at <= ours.effect.stall_at]
    report.line(
        f"lifecycle's longest stall: {ours.effect.stall_at:.1f} s after the start, after "
        f"'{before[-1] if before else 'the start'}'"
    )
    report.aim("total at most 0.3 of pg_partman's (for 5,000,000 rows)", None if ratio is None else ratio <= 0.3)
    report.aim("longest writer stall under 150 ms", ours.effect.stall_ms < 150)
    report.aim("no read short, no view wrong", ours.effect.short_reads + ours.effect.wrong_view_reads == 0)
    audited = ours.audit
    nothing_lost = audited.lost + audited.doubled + audited.updates_lost + ours.effect.unmatched_updates == 0
    report.aim("nothing refused, lost or doubled", nothing_lost and not ours.effect.errors)


def main(
    rows: Annotated[int, typer.Option(help="Rows to convert, spread over 30 months.")] = 5_000_000,
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    approaches: Annotated[list[Approach] | None, typer.Option(help="Measure only this; may be repeated.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Measure each approach and print one table, the ratios and whether the aims hold."""
    now, report, measurements = datetime.now(UTC), Report(), []
    with benchmark_server(bin_dir) as server:
        report.step(f"filling the template with {rows:,} rows")
        url = create_filled_database(server, TEMPLATE, rows, MONTHS, now)
        title = f"Converting user_behavior_events: {rows:,} rows, {describe(url)}"
        for approach in approaches or list(Approach):
            if approach is Approach.PG_PARTMAN and not partman_available(url):
                report.line("pg_partman: skipped, version 4 is not installed for this server (postgresql-15-partman)")
                continue
            report.step(f"measuring {approach.value}")
            measurements.append(measure(server, approach, rows, now))
        report.step("done")
    _print(report, title, measurements)
    _print_aims(report, measurements)
    if json:
        write_json(json, title, measurements)


if __name__ == "__main__":
    typer.run(main)
