"""Dashboard reads, the hourly batch, and account_function_usage: each against what the application did before.

python -m benchmarks.statistics [--rows 1000000 5000000] [--bin-dir DIR] [--json FILE]
"""

import argparse
import os
import statistics as figures
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from psycopg import sql

from benchmarks.data import benchmark_server
from benchmarks.report import Report, milliseconds, write_json
from benchmarks.statistics_data import ROWS_AN_HOUR, create_history, fill
from lifecycle.database import Connection, connect_directly, rows, value
from lifecycle.migrating.migrate import upgrade
from lifecycle.statistics import STATISTICS
from sandbox.server import SUPERUSER, Server

READ: Final = ("account_function_usage", *(statistic.name for statistic in STATISTICS))
# Nobody's screen shows twenty thousand accounts: of these a dashboard reads the first hundred.
FIRST: Final = {
    "account_function_usage": "order by usage_count desc limit 100",
    "user_engagement_scores": "order by engagement_score desc limit 100",
    "chat_usage_by_account": "order by total_messages desc limit 100",
}
SLOW_TRIES, FAST_TRIES, BATCHES = 3, 15, 7
BATCH: Final = "select name, outcome, duration_ms from refresh_derived_statistics()"
ROLLED_UP: Final = "select outcome from refresh_analytics_hourly('account_function_usage')"
# The application's materialized view as it was, to refresh it beside its successor.
MATERIALIZED: Final = """
create materialized view public.original_usage as select * from lifecycle.original_account_function_usage;
create unique index on public.original_usage (account_id, function_name)
"""
INSERT_EVENT: Final = "insert into user_behavior_events (session_id, page_url) values ('cost', '/')"
INSERT_MESSAGE: Final = "insert into chat_messages (session_id, role, content) values (%s, 'user', 'cost')"
TOUCH_SESSION: Final = "update chat_sessions set last_activity_at = clock_timestamp() where id = %s"
STATEMENTS: Final = 3000
LONG_ENOUGH: Final = 20_000.0


@dataclass(frozen=True)
class Size:
    """All figures of one history, in milliseconds (medians), `triggers` as a ratio of time with to without."""

    rows: int
    before: dict[str, float]
    after: dict[str, float]
    batch: float
    batch_parts: dict[str, float]
    full: float
    roll_up: float
    refresh: float
    triggers: dict[str, float]


def timed(work: Callable[[], object], tries: int) -> list[float]:
    """Milliseconds of each try; no further one once they took LONG_ENOUGH together."""
    taken: list[float] = []
    while len(taken) < tries and sum(taken) < LONG_ENOUGH:
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def read_times(conn: Connection, tries: int) -> dict[str, float]:
    """Median time in which a dashboard has its rows of each view."""
    found = {}
    for name in READ:
        query = sql.SQL("select * from public.{} " + FIRST.get(name, "")).format(sql.Identifier(name))
        found[name] = figures.median(timed(lambda query=query: conn.execute(query).fetchall(), tries))  # type: ignore[misc]
    return found


def an_hour_passes(server: Server, url: str, number: int, now: datetime) -> None:
    """New rows of one hour, with the application's triggers on; they end now, so that each hour overlaps the last."""
    fill(server, url, ROWS_AN_HOUR, now - timedelta(hours=1), now, f"hour{number}-", triggers=True)


def trigger_cost(server: Server, url: str, conn: Connection) -> dict[str, float]:
    """How much longer single statements take because of our triggers, each its own transaction."""
    session = value(conn, "select id from chat_sessions limit 1")
    statements = {"insert event": (INSERT_EVENT, ()), "insert message": (INSERT_MESSAGE, (session,)),
                  "touch session": (TOUCH_SESSION, (session,))}  # fmt: skip
    conn.execute("set synchronous_commit = off")
    taken: dict[str, dict[bool, list[float]]] = {name: {True: [], False: []} for name in statements}
    with connect_directly(server.url(url.rsplit("/", 1)[1], user=SUPERUSER), application_name="benchmark") as admin:
        for enabled in (True, False, True, False):
            for table in ("user_behavior_events", "chat_messages", "chat_sessions"):
                switch = "enable" if enabled else "disable"
                admin.execute(f"alter table public.{table} {switch} trigger user".encode())
            for name, (statement, values) in statements.items():
                taken[name][enabled] += timed(lambda s=statement, v=values: conn.execute(s.encode(), v), STATEMENTS)  # type: ignore[misc]
        for table in ("user_behavior_events", "chat_messages", "chat_sessions"):
            admin.execute(f"alter table public.{table} enable trigger user".encode())
    return {name: figures.median(times[True]) / figures.median(times[False]) for name, times in taken.items()}


def measure(server: Server, count: int, report: Report) -> Size:
    """One history from beginning to end."""
    now = datetime.now(UTC)
    report.step(f"{count:,} rows: fill")
    url = create_history(server, f"statistics_{count}", count, now)
    with connect_directly(url, application_name="benchmark") as conn:
        report.step("read the application's views as they were found")
        before = read_times(conn, SLOW_TRIES)
        report.step("migrate: first fill, indexes")
        upgrade(url)
    with connect_directly(server.url(url.rsplit("/", 1)[1], user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute("vacuum (analyze)")
    with connect_directly(url, application_name="benchmark") as conn:
        report.step("read them again")
        after = read_times(conn, FAST_TRIES)
        report.step("hourly batches")
        batches, parts = [], {}
        for number in range(BATCHES):
            an_hour_passes(server, url, number, now)
            batches += timed(lambda: parts.update({r[0]: float(r[2]) for r in rows(conn, BATCH)}), 1)
        report.step("full recompute of the same views")
        full = sum(
            timed(
                lambda name=name: conn.execute(  # type: ignore[misc]
                    sql.SQL("create temp table t as select * from lifecycle.{}; drop table t").format(
                        sql.Identifier(f"original_{name}")
                    )
                ),
                1,
            )[0]
            for name in READ
        )
        report.step("account_function_usage: roll-up and REFRESH CONCURRENTLY of the original")
        conn.execute(MATERIALIZED.encode())
        roll_ups, refreshes = [], []
        for number in range(BATCHES, BATCHES + 3):
            an_hour_passes(server, url, number, now)
            roll_ups += timed(lambda: rows(conn, ROLLED_UP), 1)
            refreshes += timed(lambda: conn.execute("refresh materialized view concurrently public.original_usage"), 1)
        report.step("cost of the triggers")
        triggers = trigger_cost(server, url, conn)
    return Size(
        count,
        before,
        after,
        figures.median(batches[1:]),
        parts,
        full,
        figures.median(roll_ups),
        figures.median(refreshes),
        triggers,
    )


def present(report: Report, sizes: list[Size], version: str) -> None:
    """Tables, ratios and aims."""
    title = f"PostgreSQL {version}, {os.cpu_count()} cores, {ROWS_AN_HOUR} new rows an hour"
    for size in sizes:
        report.table(
            f"Reading a dashboard's view, {size.rows:,} source rows ({title})",
            ("view", "view, as found", "table behind it", "times faster"),
            [
                (
                    name,
                    milliseconds(size.before[name]),
                    f"{size.after[name]:.2f} ms",
                    f"{size.before[name] / size.after[name]:,.0f}",
                )
                for name in READ
            ],
        )
    report.table(
        f"Bringing everything up to date ({title})",
        (
            "source rows",
            "hourly batch",
            "full recompute",
            "ratio",
            "account_function_usage rolled up",
            "REFRESH CONCURRENTLY",
            "ratio ",
        ),
        [
            (
                f"{size.rows:,}",
                milliseconds(size.batch),
                milliseconds(size.full),
                f"{size.batch / size.full:.4f}",
                milliseconds(size.roll_up),
                milliseconds(size.refresh),
                f"{size.roll_up / size.refresh:.4f}",
            )
            for size in sizes
        ],
    )
    report.table(
        "What the triggers cost the application: time of one statement with them / without them",
        ("source rows", *sizes[0].triggers),
        [(f"{size.rows:,}", *(f"{ratio:.3f}" for ratio in size.triggers.values())) for size in sizes],
    )
    largest = sizes[-1]
    # account_function_usage was materialized before: its reads were fast, its refresh was not.
    viewed = READ[1:]
    slowest = min(largest.before[n] / largest.after[n] for n in viewed)
    report.line(f"dashboard reads, least of all views: {slowest:,.0f} times faster")
    total = sum(largest.before[n] for n in viewed) / sum(largest.after[n] for n in viewed)
    report.line(f"dashboard reads, all views together: {total:,.0f} times faster")
    report.aim("dashboard reads at least 100 times faster, all views together", total >= 100)
    report.aim("dashboard reads at least 100 times faster, each view", slowest >= 100)
    if len(sizes) > 1:
        growth = largest.batch / sizes[0].batch
        report.line(f"hourly batch, {largest.rows / sizes[0].rows:.0f} times the history: {growth:.2f} times the cost")
        report.aim("under 1.3 times the cost", growth < 1.3)
    cheaper = largest.refresh / largest.roll_up
    report.line(f"account_function_usage: {cheaper:,.0f} times cheaper than REFRESH CONCURRENTLY of the original")
    report.aim("account_function_usage at least 20 times cheaper", cheaper >= 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--bin-dir", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report()
    with benchmark_server(options.bin_dir) as server:
        sizes = [measure(server, count, report) for count in sorted(options.rows)]
        present(report, sizes, str(server.version))
    if options.json:
        write_json(options.json, "derived statistics", sizes)


if __name__ == "__main__":
    main()
