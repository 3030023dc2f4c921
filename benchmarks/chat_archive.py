"""The chat archive: rows a second against the least that moving rows costs, and what compression saves.

    python -m benchmarks.chat_archive --bin-dir /usr/lib/postgresql/15/bin

The limit is the same work without any of the care: COPY the messages out, COPY their finished archive rows in, DELETE
them, each in one statement, on a copy of the same database. Nothing is compressed in it.
"""

import hashlib
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import typer
from psycopg.types.json import Jsonb

from benchmarks.data import benchmark_server, copy_database
from benchmarks.report import Report, megabytes, write_json
from lifecycle.archive.layout import archives_of
from lifecycle.archive.move import ArchiveRun, archive_rows
from lifecycle.archive.status import Sizes, table_sizes
from lifecycle.database import connect, connect_directly, value
from lifecycle.declarations.loader import load_application
from lifecycle.migrating.migrate import upgrade
from sandbox.application import create_application_database
from sandbox.real_data import files
from sandbox.real_data.files import json_lines
from sandbox.rows.vocabulary import ANSWERS, QUESTIONS
from sandbox.server import SUPERUSER, Server

APPLICATION: Final = load_application(Path(__file__).parents[1] / "application")
(CHAT,) = archives_of(APPLICATION.archived_tables)
ACCOUNTS: Final = 2000
MESSAGES_A_SESSION: Final = 12
YEARS: Final = timedelta(days=2 * 365)
WORKERS: Final = 2
AIM: Final = 0.5
FILL_ACCOUNTS: Final = "insert into accounts (id) select lpad(to_hex(i), 32, '0')::uuid from generate_series(1, %s) i"
FILL_SESSIONS: Final = """
insert into chat_sessions (id, account_id, started_at, last_activity_at)
select md5(i::text)::uuid, lpad(to_hex(1 + i %% %(accounts)s), 32, '0')::uuid, %(at)s, %(at)s
  from generate_series(0, %(sessions)s) i
"""
FILL: Final = """
copy chat_messages (id, session_id, role, content, tool_calls, latency_ms, created_at, sequence)
from stdin (format binary)
"""
COPY_OUT: Final = "copy (select id, content from chat_messages where created_at < now() - interval '90 days') to stdout"
COPY_IN: Final = "copy chat_messages_archive from stdin (format binary)"
DELETE: Final = "delete from chat_messages where created_at < now() - interval '90 days'"


@dataclass(frozen=True)
class Measurement:
    """One way to move the rows: how long it took, of so many rows."""

    name: str
    rows: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def texts(data: Path | None) -> list[str]:
    """What people and the assistant said: the real dialogues, or what the generator makes up."""
    if data is None:
        return [*QUESTIONS, *ANSWERS]
    return [message["content"] for dialogue in json_lines(data, files.DIALOGUES) for message in dialogue["messages"]]


def create_history(server: Server, name: str, rows: int, contents: list[str], now: datetime) -> str:
    """An application's database with `rows` messages of two years, all of them due, migrated; the owner's URL."""
    url = create_application_database(server, name)
    last = now - max(CHAT.keep_for, CHAT.keep_groups_for) - timedelta(days=1)
    step, ids = YEARS / rows, random.Random(1)
    with connect_directly(server.url(name, user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute("set session_replication_role = replica")
        admin.execute(FILL_ACCOUNTS.encode(), (ACCOUNTS,))
        sessions = {"accounts": ACCOUNTS, "sessions": rows // MESSAGES_A_SESSION, "at": last}
        admin.execute(FILL_SESSIONS.encode(), sessions)
        with admin.cursor().copy(FILL.encode()) as copy:
            copy.set_types(["uuid", "uuid", "text", "text", "jsonb", "int4", "timestamptz", "int8"])
            for number, text in enumerate(islice(cycle(contents), rows)):
                session = UUID(hashlib.md5(str(number // MESSAGES_A_SESSION).encode()).hexdigest())  # noqa: S324 - an id
                calls = Jsonb([{"tool": "search", "arguments": {"city": "福井"}}]) if number % 3 == 1 else None
                role, at = ("user", "tool", "assistant")[number % 3], last - YEARS + number * step
                copy.write_row((UUID(int=ids.getrandbits(128)), session, role, text, calls, 900, at, number))
    upgrade(url, APPLICATION)
    with connect_directly(server.url(name, user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute("vacuum (analyze)")
        admin.execute("checkpoint")
    return url


def archive(url: str) -> ArchiveRun:
    """Everything that is due, by one worker."""
    with connect(url) as conn, connect(url) as claims:
        return archive_rows(conn, claims, CHAT, now=datetime.now(UTC))


def timed(name: str, rows: int, work: Callable[[], int]) -> Measurement:
    """`work` says how many rows it moved; AssertionError where that is not all of them."""
    started = time.perf_counter()
    moved = work()
    seconds = time.perf_counter() - started
    assert moved == rows, f"{name}: {moved:,} rows instead of {rows:,}"
    return Measurement(name, rows, seconds)


def measure_limit(url: str, archived: Path, rows: int) -> list[Measurement]:
    """COPY out, COPY in and DELETE, each alone."""

    def copy_out() -> int:
        cursor = conn.cursor()
        with cursor.copy(f"{COPY_OUT} (format binary)".encode()) as copy:
            for _ in copy:
                pass
        return cursor.rowcount

    def copy_in() -> int:
        cursor = conn.cursor()
        with archived.open("rb") as source, cursor.copy(COPY_IN) as copy:
            while block := source.read(1 << 16):
                copy.write(block)
        return cursor.rowcount

    with connect_directly(url, application_name="benchmark") as conn:
        return [
            timed("COPY out", rows, copy_out),
            timed("COPY in", rows, copy_in),
            timed("DELETE", rows, lambda: conn.execute(DELETE).rowcount),
        ]


def save_archive(url: str, target: Path) -> None:
    """The archive's rows as COPY writes them."""
    with (
        connect_directly(url, application_name="benchmark") as conn,
        target.open("wb") as file,
        conn.cursor().copy("copy chat_messages_archive to stdout (format binary)") as copy,
    ):
        file.writelines(copy)


def sizes_after_vacuum(server: Server, name: str) -> Sizes:
    """What both tables take once their space was given back."""
    with connect_directly(server.url(name, user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute("vacuum (full) chat_messages")
        return table_sizes(admin, CHAT)


def main(
    rows: Annotated[int, typer.Option(help="Messages to archive.")] = 1_000_000,
    data: Annotated[Path | None, typer.Option(help="Folder of the real data sets; default: made-up texts.")] = None,
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Measure one worker, two workers and the limit; print tables and the ratio."""
    report = Report()
    contents = texts(data)
    with benchmark_server(bin_dir) as server, tempfile.TemporaryDirectory() as folder:
        report.step(f"filling the database with {rows:,} messages")
        create_history(server, "history", rows, contents, datetime.now(UTC))
        names = ("one", "several", "least")
        urls = {name: copy_database(server, "history", name) for name in names}
        with connect(urls["one"]) as conn:
            version, before = value(conn, "show server_version").split()[0], table_sizes(conn, CHAT)
        report.step("one worker")
        runs: list[ArchiveRun] = []

        def one_worker() -> int:
            runs.append(archive(urls["one"]))
            return runs[0].moved

        one = timed("lifecycle, one worker", rows, one_worker)
        report.step(f"{WORKERS} workers")
        with ProcessPoolExecutor(WORKERS) as pool:
            list(pool.map(abs, range(WORKERS)))  # started before the clock
            both = timed(
                f"lifecycle, {WORKERS} workers",
                rows,
                lambda: sum(run.moved for run in pool.map(archive, [urls["several"]] * WORKERS)),
            )
        report.step("the limit")
        archived = Path(folder) / "archive"
        save_archive(urls["one"], archived)
        parts = measure_limit(urls["least"], archived, rows)
        report.step("space")
        with connect(urls["one"]) as conn:
            moved = table_sizes(conn, CHAT)
        after = sizes_after_vacuum(server, "one")
        report.step("done")
    (run,) = runs
    limit = Measurement("limit: all three", rows, sum(part.seconds for part in parts))
    kind = "dialogues of JMultiWOZ-TC" if data else "made-up texts"
    title = f"Chat archive, {rows:,} messages, {kind}, PostgreSQL {version}"
    report.line(title)
    lines = [*parts, limit, one, both]
    report.table(
        "Moving",
        ("what", "time", "rows/s", "of the limit"),
        [(m.name, f"{m.seconds:,.1f} s", f"{m.rate:,.0f}", f"{m.rate / limit.rate:.2f}") for m in lines],
    )
    report.table(
        "Bytes",
        ("what", "bytes"),
        [
            ("text", megabytes(run.text_bytes)),
            ("text in the archive", megabytes(run.stored_bytes)),
            ("chat_messages before", megabytes(before.live)),
            ("chat_messages after", megabytes(moved.live)),
            ("chat_messages after VACUUM (FULL)", megabytes(after.live)),
            ("chat_messages_archive", megabytes(after.archive)),
        ],
    )
    report.line(f"compression: {run.text_bytes / run.stored_bytes:.2f}, {run.text_bytes / rows:.0f} bytes a text")
    report.aim(f"at least {AIM} of the limit", one.rate >= AIM * limit.rate)
    if json:
        write_json(json, title, [*lines, run, before, moved, after])


if __name__ == "__main__":
    typer.run(main)
