"""The recommendation read: from the segment cache against computed anew, and what keeping the cache costs.

    python -m benchmarks.segments --bin-dir /usr/lib/postgresql/15/bin

Both answers are compared for every account that is asked. The two are asked in turn on one connection, so that
neither has the warmer cache.
"""

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.data import benchmark_server, describe
from benchmarks.report import Report, write_json
from lifecycle.database import Connection, connect_directly, rows
from lifecycle.declarations.loader import DEFAULT_FOLDER, load_application
from lifecycle.migrating.migrate import upgrade
from lifecycle.segments.refresh import refresh_segments
from sandbox.application import create_application_database
from sandbox.generate import SCALES, generate

CACHED: Final = "select * from public.recommend_activities(%s, 10)"
UNCACHED: Final = "select * from lifecycle.recommend_activities_uncached(%s, 10)"
ACCOUNTS: Final = (
    "select account_id from public.account_profiles where preferences -> 'segments' is not null order by 1"
)
WARM_UP: Final = 50


@dataclass(frozen=True)
class Read:
    """Latencies of one way to read, in milliseconds, the client's round trip included."""

    name: str
    p50: float
    p99: float


@dataclass(frozen=True)
class Refresh:
    """One refresh: how many accounts, how many of them written, and how long it took."""

    name: str
    accounts: int
    written: int
    seconds: float


def _timed(conn: Connection, query: str, account: Any) -> tuple[float, list[tuple[Any, ...]]]:
    started = time.perf_counter()
    found = rows(conn, query, (account,))
    return (time.perf_counter() - started) * 1000, found


def _read(name: str, times: list[float]) -> Read:
    ordered = sorted(times)
    return Read(name, ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100])


def measure_reads(conn: Connection, reads: int) -> tuple[Read, Read]:
    """Cached and uncached latencies of the same accounts, chosen at random; AssertionError when answers differ."""
    accounts = [account for (account,) in rows(conn, ACCOUNTS)]
    chosen = random.Random(1).choices(accounts, k=reads + WARM_UP)
    times: dict[str, list[float]] = {CACHED: [], UNCACHED: []}
    for number, account in enumerate(chosen):
        answers = []
        for query in (CACHED, UNCACHED) if number % 2 else (UNCACHED, CACHED):
            milliseconds, found = _timed(conn, query, account)
            answers.append(found)
            if number >= WARM_UP:
                times[query].append(milliseconds)
        assert answers[0] == answers[1]
    return _read("cached", times[CACHED]), _read("uncached", times[UNCACHED])


def _refresh(conn: Connection, name: str) -> Refresh:
    started = time.perf_counter()
    result = refresh_segments(conn)
    return Refresh(name, result.accounts_seen, result.written, time.perf_counter() - started)


def measure_refreshes(conn: Connection) -> list[Refresh]:
    """The first refresh, one after a hundredth of the accounts did something, and one without any change."""
    first = _refresh(conn, "first, everybody")
    conn.execute(
        "insert into activity_interactions (account_id, activity_id, activity_slug, interaction_type)"
        " select p.account_id, a.id, a.slug, 'book' from account_profiles p tablesample bernoulli (1) repeatable (1)"
        " cross join lateral (select id, slug from activities where slug = 'tojinbo') a"
    )
    return [first, _refresh(conn, "a hundredth changed"), _refresh(conn, "nothing changed")]


def main(
    scale: Annotated[str, typer.Option(help=f"Sample rows: {', '.join(SCALES)}.")] = "medium",
    reads: Annotated[int, typer.Option(help="Reads of each kind.")] = 2000,
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Measure refreshes and reads, print two tables and the ratio."""
    report = Report()
    with benchmark_server(bin_dir) as server:
        url = create_application_database(server, "segments")
        report.step(f"filling the database, scale {scale}")
        generate(url, scale, now=datetime.now(UTC), progress=lambda _table, _rows: None)
        upgrade(url, load_application(DEFAULT_FOLDER))
        title = f"Segments, sample rows {scale}, {describe(url)}"
        with connect_directly(url, application_name="benchmark") as conn:
            report.step("refreshing")
            refreshes = measure_refreshes(conn)
            conn.execute("vacuum (analyze)")
            report.step(f"reading {reads:,} times each")
            cached, uncached = measure_reads(conn, reads)
        report.step("done")
    report.line(title)
    report.table(
        "Refresh",
        ("refresh", "accounts", "written", "time"),
        [(r.name, f"{r.accounts:,}", f"{r.written:,}", f"{r.seconds * 1000:,.0f} ms") for r in refreshes],
    )
    report.table(
        "Read",
        ("read", "p50", "p99"),
        [(read.name, f"{read.p50:.2f} ms", f"{read.p99:.2f} ms") for read in (cached, uncached)],
    )
    report.line(f"uncached / cached: p50 {uncached.p50 / cached.p50:.1f}, p99 {uncached.p99 / cached.p99:.1f}")
    if json:
        write_json(json, title, [cached, uncached, *refreshes])


if __name__ == "__main__":
    typer.run(main)
