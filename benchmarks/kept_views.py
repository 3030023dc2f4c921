"""Kept views against their definitions, plain tables and REFRESH MATERIALIZED VIEW CONCURRENTLY, in one run.

    python -m benchmarks.kept_views --bin-dir /usr/lib/postgresql/15/bin --events 1000000 --events 5000000

Reading is the server's time (planning and execution) without the client's. An hour is what an hour of the same traffic
brings, and of every hundred rows one that is corrected and one that goes. The smallest size is the traffic of a year, a
larger one that of as much more time.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Annotated, Final

import typer

from benchmarks.data import benchmark_server
from benchmarks.declared import APPLICATION
from benchmarks.kept_views_data import create_databases, one_more_hour
from benchmarks.report import Report, milliseconds, write_json
from lifecycle.database import Connection, connect_directly, rows, value
from lifecycle.names import QualifiedName
from lifecycle.partitions.months import add_months, month_start
from lifecycle.views.archived import rows_elsewhere
from lifecycle.views.keep import plan_keeping
from sandbox.server import Server

MONTHS: Final = 12
READS: Final = 5
HOURS: Final = 3
STATEMENTS: Final = 200
KEPT: Final = """
select v.schema_name, v.view_name, v.key_column, v.moves, lifecycle.kept_definition(
           to_regclass(format('%I.%I', v.schema_name, v.view_name)), v.kept_table)
  from lifecycle.kept_views v order by v.place
"""
REFRESH: Final = (
    "select r.mode, r.written from lifecycle.kept_views v cross join lateral lifecycle.refresh_kept_view(v) r"
)
CHANGED: Final = """
select count(*) from ((select t::text from {view} t except all select t::text from {plain} t)
                      union all (select t::text from {plain} t except all select t::text from {view} t)) x
"""
TRIGGERS: Final = (
    "select tgrelid::regclass::text, tgname::text from pg_trigger where tgname like 'lifecycle\\_changed%'"
)
WRITES: Final = {
    "INSERT a message": "insert into chat_messages (session_id, role, content, sequence)"
    " select id, 'user', 'x', -%s from chat_sessions limit 1",
    "INSERT an event": "insert into user_behavior_events (session_id, page_url) values ('s' || %s, '/x')",
    "UPDATE a session of today": "update chat_sessions set last_activity_at = now() + %s * interval '1 ms'"
    " where id = (select id from chat_sessions order by started_at desc limit 1)",
    "UPDATE an old message": "update chat_messages set latency_ms = %s"
    " where id = (select id from chat_messages order by created_at limit 1)",
}


@dataclass(frozen=True)
class View:
    """A kept view: how it is refreshed, its definition and the order of its rows."""

    name: QualifiedName
    key: str | None
    moves: str
    definition: str
    order: str

    @property
    def plain(self) -> QualifiedName:
        """A table of the same rows."""
        return QualifiedName("plain", self.name.name)


@dataclass(frozen=True)
class Figures:
    """Milliseconds of one view: reads, refreshes (of an hour, after midnight), and its rows written and changed."""

    view: str
    key: str | None
    moves: str
    definition: float
    kept: float
    plain: float
    hour: float
    midnight: float
    concurrently: float
    written: int
    changed: int


@dataclass(frozen=True)
class Write:
    """One statement of the application, median milliseconds with our triggers and without."""

    name: str
    without: float
    with_triggers: float


def read_views(conn: Connection) -> list[View]:
    """Every kept view."""
    elsewhere = rows_elsewhere(conn, APPLICATION)
    found = []
    for schema, name, key, moves, definition in rows(conn, KEPT):
        view = QualifiedName(schema, name)
        with conn.transaction():
            order = plan_keeping(conn, view, APPLICATION.views.kept[view], elsewhere).order
        found.append(View(view, key, moves, definition, f" order by {', '.join(order)}" if order else ""))
    return found


def read_time(conn: Connection, query: str, times: int = READS) -> float:
    """Median milliseconds of the server's planning and execution."""
    found = []
    for _ in range(times):
        ((plan,),) = rows(conn, f"explain (analyze, timing off, format json) {query}")
        found.append(plan[0]["Planning Time"] + plan[0]["Execution Time"])
    return median(found)


def timed(conn: Connection, statement: str, *parameters: object) -> float:
    """Milliseconds of one statement."""
    started = time.perf_counter()
    conn.execute(statement.encode(), parameters or None)
    return (time.perf_counter() - started) * 1000


def refresh(conn: Connection, view: View) -> tuple[float, int]:
    """Refresh one view, due or not: milliseconds and rows written."""
    started = time.perf_counter()
    ((_, written),) = rows(
        conn, f"{REFRESH} where (v.schema_name, v.view_name) = (%s, %s)", (view.name.schema, view.name.name)
    )
    return (time.perf_counter() - started) * 1000, written


def materialize(conn: Connection, view: View) -> None:
    """The definition as a materialized view with the unique index that CONCURRENTLY needs."""
    name = f"materialized.{view.name.name}"
    conn.execute(
        f"create materialized view {name} as select md5(d::text) as h,"
        f" row_number() over (partition by md5(d::text)) as n, d.* from ({view.definition}) d".encode()
    )
    conn.execute(f"create unique index on {name} (h, n)".encode())
    conn.execute(f"analyze {name}".encode())


def measure_views(conn: Connection, views: list[View], events: int, messages: int) -> list[Figures]:
    """Reads, then some hours, then midnight."""
    conn.execute("create schema plain; create schema materialized")
    reads, hours = {}, {view.name: [] for view in views}  # type: dict[QualifiedName, tuple[float, float]], dict[QualifiedName, list[tuple[float, int, int]]]
    for view in views:
        refresh(conn, view)
        conn.execute(f"create table {view.plain} as select * from {view.name}".encode())
        conn.execute(f"analyze {view.plain}".encode())
        materialize(conn, view)
        reads[view.name] = (
            read_time(conn, f"select * from {view.name}"),
            read_time(conn, f"select * from {view.plain}{view.order}"),
        )
    for hour in range(HOURS):
        last = datetime.now(UTC) - timedelta(seconds=1)
        one_more_hour(conn, events, messages, last - timedelta(minutes=50 - 10 * hour), last)
        for view in views:
            took, written = refresh(conn, view)
            changed = value(conn, CHANGED.format(view=view.name, plain=view.plain))
            conn.execute(f"drop table {view.plain}; create table {view.plain} as select * from {view.name}".encode())
            hours[view.name].append((took, written, changed))
        conn.execute("select lifecycle.forget_changed_rows()")
    concurrently = {
        view.name: timed(conn, f"refresh materialized view concurrently materialized.{view.name.name}")
        for view in views
    }
    definitions = {view.name: read_time(conn, f"select * from ({view.definition}) d", 1) for view in views}
    conn.execute("update lifecycle.kept_views set refreshed_at = refreshed_at - interval '1 day'")
    midnight = {view.name: refresh(conn, view)[0] for view in views}
    return [
        Figures(
            view.name.name, view.key, view.moves, definitions[view.name], *reads[view.name],
            median(took for took, _, _ in hours[view.name]), midnight[view.name], concurrently[view.name],
            sum(written for _, written, _ in hours[view.name]), sum(changed for _, _, changed in hours[view.name]),
        )
        for view in views
    ]  # fmt: skip


def measure_writes(conn: Connection) -> list[Write]:
    """Each statement in turns with our triggers and without."""
    conn.execute("set synchronous_commit = off")
    triggers = rows(conn, TRIGGERS)
    took: dict[tuple[str, bool], list[float]] = {}
    number = 0
    for turn in range(10):
        on = turn % 2 == 0
        for table, trigger in triggers:
            conn.execute(f"alter table {table} {'enable' if on else 'disable'} trigger {trigger}".encode())
        for name, statement in WRITES.items():
            for _ in range(STATEMENTS // 5):
                number += 1
                took.setdefault((name, on), []).append(timed(conn, statement, number))
    return [Write(name, median(took[name, False]), median(took[name, True])) for name in WRITES]


def print_figures(report: Report, title: str, found: list[Figures], writes: list[Write]) -> None:
    """Tables, and which aims hold."""
    report.table(
        f"{title}: reading",
        ("view", "definition", "kept", "plain table", "times faster", "of plain"),
        [
            (f.view, milliseconds(f.definition), f"{f.kept:.2f} ms", f"{f.plain:.2f} ms",
             f"{f.definition / f.kept:,.0f}", f"{f.kept / f.plain:.2f}")
            for f in found
        ],
    )  # fmt: skip
    report.table(
        f"{title}: refreshing",
        ("view", "key", "moves", "definition", "CONCURRENTLY", "hour", "ratio", "midnight", "written", "changed"),
        [
            (f.view, f.key or "", f.moves, milliseconds(f.definition), milliseconds(f.concurrently),
             milliseconds(f.hour), f"{f.hour / f.definition:.2f}", milliseconds(f.midnight), f"{f.written:,}",
             f"{f.changed:,}")
            for f in found
        ],
    )  # fmt: skip
    report.table(
        f"{title}: the application's writes",
        ("statement", "without triggers", "with", "ratio"),
        [
            (w.name, f"{w.without:.3f} ms", f"{w.with_triggers:.3f} ms", f"{w.with_triggers / w.without:.2f}")
            for w in writes
        ],
    )
    definitions, kept = sum(f.definition for f in found), sum(f.kept for f in found)
    hour, concurrently = sum(f.hour for f in found), sum(f.concurrently for f in found)
    slow = [f.view for f in found if f.definition < 100 * f.kept and f.kept > 1.5 * f.plain]
    keyed = [f for f in found if f.key and f.moves == "never"]
    dear = [f.view for f in keyed if f.hour > f.definition / 20]
    report.line(f"all reads: {milliseconds(definitions)} by definition, {milliseconds(kept)} kept")
    report.line(f"an hour: {milliseconds(hour)}; CONCURRENTLY {milliseconds(concurrently)};"
                f" after midnight {milliseconds(sum(f.midnight for f in found))}")  # fmt: skip
    report.aim(f"all reads at least 200 times faster ({definitions / kept:,.0f})", definitions >= 200 * kept)
    report.aim(f"each at least 100 times, or 1.5 of a plain table {slow or ''}", not slow)
    report.aim(f"keyed all-time views at most 1/20 of recomputing them {dear or ''}", not dear)
    report.aim(f"everything at most 1/4 of recomputing everything ({hour / definitions:.2f})", hour <= definitions / 4)
    report.aim("INSERT and UPDATE at most 1.1 times", all(w.with_triggers <= 1.1 * w.without for w in writes))


def print_growth(report: Report, short: list[Figures], long: list[Figures]) -> None:
    """How an hour's refresh of the views with a key and no clock grows with their history."""
    before = {f.view: f.hour for f in short}
    grown = {f.view: f.hour / before[f.view] for f in long if f.key and f.moves == "never"}
    told = ", ".join(f"{view} {times:.2f}" for view, times in grown.items())
    report.aim(f"keyed all-time views grow less than 1.3 times ({told})", all(times < 1.3 for times in grown.values()))


def measure(server: Server, report: Report, events: int, months: int) -> tuple[list[Figures], list[Write]]:
    """One size of history, in databases that are dropped afterwards."""
    now, messages = datetime.now(UTC), events * 3 // 10
    hours = (now - add_months(month_start(now), 1 - months)) / timedelta(hours=1)
    report.step(f"filling with {events:,} events and {messages:,} messages of {months} months, keeping the views")
    _, kept = create_databases(server, events, messages, now, months)
    with connect_directly(kept, application_name="benchmark") as conn:
        conn.execute("set timezone = 'UTC'")
        views = read_views(conn)
        report.step(f"{len(views)} views")
        found = measure_views(conn, views, max(1, round(events / hours)), max(1, round(messages / hours)))
        report.step("writes")
        writes = measure_writes(conn)
    return found, writes


def main(
    events: Annotated[list[int] | None, typer.Option(help="Events of the history, several times for growth.")] = None,
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Measure each size; print tables, ratios and aims."""
    report, measured = Report(), {}
    sizes = sorted(events or [20_000])
    for size in sizes:
        with benchmark_server(bin_dir) as server:
            measured[size] = measure(server, report, size, MONTHS * size // sizes[0])
        print_figures(report, f"Kept views, {size:,} events", *measured[size])
    if sizes[-1] > sizes[0]:
        print_growth(report, measured[sizes[0]][0], measured[sizes[-1]][0])
    report.step("done")
    if json:
        write_json(json, "Kept views", [figure for found in measured.values() for part in found for figure in part])


if __name__ == "__main__":
    typer.run(main)
