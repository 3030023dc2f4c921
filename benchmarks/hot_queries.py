"""The application's hot queries before and after their indexes, and what else was measured to choose these.

    python -m benchmarks.hot_queries --bin-dir /usr/lib/postgresql/15/bin

Before and after is the same database in the same run; a query is asked with the same parameters both times and must
return the same rows. Buffers are pages of 8 kB from EXPLAIN (ANALYZE, BUFFERS), the median of some parameters.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import psycopg
import typer

from benchmarks.data import benchmark_server
from benchmarks.hot_queries_data import INDEXES, LOCALE, create_filled_database, vendor_session
from benchmarks.report import Report, write_json
from lifecycle.database import Connection, connect_directly, rows, value
from lifecycle.indexes.build import build_indexes
from sandbox.server import Server

DATABASE: Final = "hot_queries"
WARM_UP: Final = 5
EXPLAINED: Final = 11
COMMON, RARE, LONGER = (
    ("京都", "箱根", "温泉", "東京"),
    ("小浜", "湊レ", "浜の"),
    ("三国湊", "金閣寺", "kyoto", "小浜の町歩き"),
)
PREFIXES: Final = ("京都 の", "Kanazawa w", "金沢観", "福井", "小", "永平寺 の温")
TITLES: Final = "select id, title, started_at from chat_sessions where title ilike '%%' || %s || '%%'"
LISTING: Final = "select id, voucher_id, scanned_at, scan_context from voucher_redemptions"


@dataclass(frozen=True)
class Query:
    """One hot query; `before` is asked on the database without the indexes where that one lacks something."""

    name: str
    text: str
    parameters: Sequence[tuple[Any, ...]]
    before: str | None = None
    members: Sequence[int] = ()


@dataclass(frozen=True)
class Figures:
    """Latencies in milliseconds with the client's round trip, and pages read."""

    p50: float
    p99: float
    buffers: int


def _id(number: int) -> str:
    return f"{number:032x}"


def hot_queries(chance: random.Random, reads: int, month_ago: datetime) -> list[Query]:
    """The queries and as many parameters of each, the same for the same `chance`."""

    def some(*values: Any) -> list[tuple[Any, ...]]:
        return [(chance.choice(values),) for _ in range(reads)]

    def ids(limit: int, width: int = 1, power: int = 1) -> list[tuple[Any, ...]]:
        return [tuple(_id(1 + int(limit * chance.random() ** power)) for _ in range(width)) for _ in range(reads)]

    members = [1 + int(1500 * chance.random() ** 2) for _ in range(8)]
    newest = "order by started_at desc, id limit 50"
    return [
        Query(
            "history of one kind",
            "select activity_id, created_at from activity_interactions where account_id = %s"
            " and interaction_type = 'book' order by created_at desc limit 50",
            ids(20000, power=3),
        ),
        Query(
            "duplicate check",
            "select exists (select from activity_interactions where account_id = %s and activity_id = %s"
            " and interaction_type = 'book')",
            [(account, activity) for (account,), (activity,) in zip(ids(20000, power=3), ids(2000), strict=True)],
        ),
        Query(
            "clicks of one result",
            "select count(*) from search_queries where clicked_result_id = %s",
            ids(2000, power=2),
        ),
        Query(
            "clicks of every result",
            "select clicked_result_id, count(*) from search_queries where clicked_result_id is not null"
            " group by 1 order by 2 desc, 1 limit 20",
            [()] * min(reads, 40),
        ),
        Query(
            "prefix search",
            "select search_query, count(*) from search_queries where search_query like %s || '%%'"
            " group by 1 order by 2 desc, 1 limit 10",
            some(*PREFIXES),
        ),
        Query("title, 3 characters or more", f"{TITLES} {newest}", some(*LONGER)),
        Query("title, 2, common, plain ilike", f"{TITLES} {newest}", some(*COMMON)),
        Query("title, 2, rare, plain ilike", f"{TITLES} {newest}", some(*RARE)),
        *(
            Query(
                f"title, 2, {kind}, search_chat_titles()",
                "select id, title, started_at from search_chat_titles(%s)",
                some(*words),
                before=f"{TITLES} {newest}",
            )
            for kind, words in (("common", COMMON), ("rare", RARE))
        ),
        Query(
            "vendor's listing", f"{LISTING} order by scanned_at desc limit 50", [()] * min(reads, 40), members=members
        ),
        Query(
            "vendor's listing, one day a month ago",
            f"{LISTING} where scanned_at >= %s::timestamptz - interval '1 day' and scanned_at < %s"
            " order by scanned_at desc limit 50",
            [(month_ago, month_ago)] * min(reads, 40),
            members=members,
        ),
        Query(
            "redemptions of one voucher",
            f"{LISTING} where voucher_id = %s order by scanned_at desc",
            ids(1000),  # by the back end: it redeems
        ),
    ]


def _pages(conn: Connection, text: str, parameters: tuple[Any, ...]) -> int:
    cursor = psycopg.ClientCursor(conn)
    row = cursor.execute(f"explain (analyze, buffers, format json) {text}".encode(), parameters).fetchone()
    plan = row[0][0]["Plan"]  # type: ignore[index]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def measure(sessions: Sequence[Connection], query: Query, text: str) -> tuple[Figures, list[Any]]:
    """Ask with every parameter, in turn on each session; the figures and the answers."""
    times, answers = [], []
    for number, parameters in enumerate([*query.parameters[:WARM_UP], *query.parameters]):
        conn = sessions[number % len(sessions)]
        started = time.perf_counter()
        found = rows(conn, text, parameters)
        if number >= WARM_UP:
            times.append((time.perf_counter() - started) * 1000)
            answers.append(sorted(found, key=str))
    if not any(answers):
        raise AssertionError(f"{query.name}: no parameter found a row, so nothing was measured")
    times.sort()
    explained = query.parameters[:EXPLAINED]
    pages = median(_pages(sessions[i % len(sessions)], text, parameters) for i, parameters in enumerate(explained))
    return Figures(times[len(times) // 2], times[len(times) * 99 // 100], round(pages)), answers


def measure_all(server: Server, url: str, queries: Sequence[Query], *, before: bool) -> dict[str, tuple[Figures, Any]]:
    """Every query as its caller: a vendor's member for the redemptions, past row-level security for the others."""
    measured = {}
    for query in queries:
        text = query.before if before and query.before else query.text
        sessions = [vendor_session(server, DATABASE, member) for member in query.members] or [
            connect_directly(url, application_name="benchmark")
        ]
        measured[query.name] = measure(sessions, query, text)
        for session in sessions:
            session.close()
    return measured


def print_measured(report: Report, title: str, lines: Sequence[tuple[str, Figures, Figures]]) -> None:
    """Before and after, side by side."""
    report.table(
        title,
        ("query", "p50 before", "after", "ratio", "p99 before", "after", "ratio", "buffers before", "after"),
        [
            (
                *(name, f"{was.p50:.2f} ms", f"{now.p50:.2f} ms", f"{was.p50 / now.p50:.1f}"),
                *(f"{was.p99:.2f} ms", f"{now.p99:.2f} ms", f"{was.p99 / now.p99:.1f}"),
                *(f"{was.buffers:,}", f"{now.buffers:,}"),
            )
            for name, was, now in lines
        ],
    )


def build_and_print(report: Report, conn: Connection) -> None:
    """Build each hot-query index and say how long it took and how large it is."""
    lines = []
    for index in INDEXES:
        started = time.perf_counter()
        build_indexes(conn, [index])
        size = value(conn, "select pg_relation_size(to_regclass(%s))", (str(index.qualified_name),))
        lines.append((index.name, f"{time.perf_counter() - started:.1f} s", f"{size / 1e6:.0f} MB"))
    conn.execute("vacuum (analyze)")
    report.table("Build", ("index", "time", "size"), lines)


def main(
    rows: Annotated[int, typer.Option(help="Rows of each table.")] = 1_000_000,
    reads: Annotated[int, typer.Option(help="Parameters of each query.")] = 200,
    candidates: Annotated[bool, typer.Option(help="Also measure the indexes that were not chosen.")] = True,
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Measure before, build, measure after; print tables with the ratio of each query."""
    from benchmarks.hot_query_candidates import measure_candidates

    report = Report()
    with benchmark_server(bin_dir) as server:
        report.step(f"filling four tables with {rows:,} rows")
        url = create_filled_database(server, DATABASE, rows)
        queries = hot_queries(random.Random(1), reads, datetime.now(UTC) - timedelta(days=30))
        with connect_directly(url, application_name="benchmark") as conn:
            title = f"Hot queries, PostgreSQL {value(conn, 'show server_version')}, {LOCALE}, {rows:,} rows a table"
            report.line(title)
            report.step("before")
            before = measure_all(server, url, queries, before=True)
            report.step("building the indexes")
            build_and_print(report, conn)
            report.step("after")
            after = measure_all(server, url, queries, before=False)
            different = [name for name in before if before[name][1] != after[name][1]]
            lines = [(name, before[name][0], after[name][0]) for name in before]
            print_measured(report, "Queries", lines)
            report.line(f"different answers: {', '.join(different) or 'none'}")
            if candidates:
                report.step("candidates")
                measure_candidates(report, server, conn, queries)
        report.step("done")
    if json:
        write_json(json, title, [{"query": name, "before": vars(was), "after": vars(now)} for name, was, now in lines])
    raise typer.Exit(1 if different else 0)


if __name__ == "__main__":
    typer.run(main)
