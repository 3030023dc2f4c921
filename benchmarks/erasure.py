"""Erasing people: accounts per second against SQL written by hand, and what the proof costs.

    python -m benchmarks.erasure --bin-dir /usr/lib/postgresql/15/bin

Three ways erase as many people each, in turn, on one migrated database with the same indexes and triggers: this
project's steps (keys collected and kept, rows counted, the proof left out), the set-based SQL of
`benchmarks/erasure_by_hand.py` in batches of 100 accounts, and the same SQL one account at a time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.data import benchmark_server, describe
from benchmarks.declared import APPLICATION
from benchmarks.erasure_by_hand import erase_by_hand
from benchmarks.erasure_data import make_people
from benchmarks.report import Report, milliseconds, write_json
from lifecycle.database import Connection, connect_directly, rows, value
from lifecycle.erasures.policy import ERASURE
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.tables import monthly_tables
from sandbox.server import SUPERUSER

NEXT_PEOPLE: Final = """
with chosen as (select a.id from accounts a left join data_deletion_requests r on r.account_id = a.id
                 where a.status = 'active' and r.id is null order by md5(a.id::text) limit %s)
insert into data_deletion_requests (account_id, request_reason) select id, 'benchmark' from chosen
returning account_id::text
"""
LARGEST: Final = """
select s.table_name, s.rows, s.columns, s.duration_ms from lifecycle.erasure_scans s
 where s.batch_id = %s order by s.duration_ms desc limit 6
"""
# What each way has to take away, of these people.
HELD: Final = """
select sum(n) from (
    select count(*) from chat_sessions where account_id = any (%(people)s::uuid[])
     union all select count(*) from search_queries where account_id = any (%(people)s::uuid[])
     union all select count(*) from user_behavior_events where account_id = any (%(people)s::uuid[])
     union all select count(*) from account_profiles where account_id = any (%(people)s::uuid[])
     union all select count(*) from account_linkages where account_id = any (%(people)s::uuid[])) held(n)
"""
VERIFIED: Final = "select count(*) from lifecycle.deletion_jobs where batch_id = %s and state = 'verified'"
# What a batch costs besides its people weighs more in a small one.
AIM_OF_LIMIT: Final = {1000: 0.7, 1: 0.6}
AIM_REFRESH_SECONDS: Final = 3
AIM_SEARCH_SECONDS: Final = 20


@dataclass
class Way:
    """One way to erase, summed over its rounds: accounts, rows that hung on them by their id, and seconds."""

    name: str
    accounts: int = 0
    rows: int = 0
    verified: int = 0
    seconds: float = 0
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.accounts / self.seconds


def step(conn: Connection, batch: str, name: str, relation: int | None = None) -> str:
    """One step in one transaction; AssertionError when it failed."""
    outcome = value(conn, "select lifecycle.erasure_step(%s, %s, %s::oid::regclass)", (batch, name, relation))
    assert outcome != "failed", rows(
        conn, "select distinct last_error from lifecycle.deletion_jobs where state = 'failed'"
    )
    return str(outcome)


def erase_with_steps(conn: Connection, way: Way, batches: list[str]) -> None:
    """Everything but the proof, for which the batch is left in `batches`."""
    conn.execute("select from public.enqueue_deletion_jobs()")
    batch = str(value(conn, "select lifecycle.claim_deletion_jobs(1000000)"))
    for name in ("collect", "erase"):
        started = time.perf_counter()
        while step(conn, batch, name) == "again":
            pass
        way.steps[name] = way.steps.get(name, 0) + time.perf_counter() - started
    batches.append(batch)


def prove(conn: Connection, batch: str) -> dict[str, float]:
    """Seconds of each step of the proof."""
    seconds: dict[str, float] = {}
    relations = rows(conn, "select relation::oid from lifecycle.relations_to_search() order by place")
    for name in ("sign_in_users", "refresh", "search", "conclude"):
        started = time.perf_counter()
        for (relation,) in relations if name == "search" else [(None,)]:
            step(conn, batch, name, relation)
        seconds[name] = time.perf_counter() - started
    return seconds


def timed(conn: Connection, way: Way, people: list[str], work: Callable[[], object]) -> None:
    """AssertionError where rows still hang on these people afterwards: then it was something else that was timed."""
    held = value(conn, HELD, {"people": people})
    started = time.perf_counter()
    work()
    way.seconds += time.perf_counter() - started
    left = value(conn, HELD, {"people": people})
    assert held > 0, f"{way.name}: nobody to erase"
    assert left == 0, f"{way.name}: {left:,} of {held:,} rows are left"
    way.accounts += len(people)
    way.rows += int(held)


def compare(conn: Connection, admin: Connection, per_round: int, times: int, report: Report) -> tuple[Way, Way, Way]:
    """The three ways in turn, so that none has the warmer cache or the emptier tables; the proof after each round.

    Each begins with a checkpoint: whoever changes a page first after one writes the whole page to the log.
    """
    ours, by_hand, one_by_one = Way("lifecycle"), Way("by hand, batches of 100"), Way("by hand, one by one")
    batches: list[str] = []
    for number in range(times):
        people = [account for (account,) in rows(conn, NEXT_PEOPLE, (per_round,))]
        report.step(f"round {number + 1}: {len(people):,} people, lifecycle")
        admin.execute("checkpoint")
        timed(conn, ours, people, partial(erase_with_steps, conn, ours, batches))
        proof = prove(conn, batches[-1])
        ours.verified += value(conn, VERIFIED, (batches[-1],))
        for name, seconds in proof.items():
            ours.steps[name] = ours.steps.get(name, 0) + seconds
        for way, batch, share in ((by_hand, 100, 1), (one_by_one, 1, 10)):
            people = [account for (account,) in rows(conn, NEXT_PEOPLE, (per_round // share,))]
            report.step(f"round {number + 1}: {len(people):,} people, {way.name}")
            admin.execute("checkpoint")
            timed(conn, way, people, partial(erase_by_hand, conn, people, batch))
            conn.execute("update lifecycle.deletion_jobs set state = 'cancelled' where state = 'queued'")
        report.table(
            f"The search of round {number + 1}, by relation",
            ("relation", "rows", "columns", "time"),
            [
                (name, f"{n:,}", str(columns), milliseconds(ms))
                for name, n, columns, ms in rows(conn, LARGEST, (batches[-1],))
            ],
        )
    return ours, by_hand, one_by_one


def main(
    accounts: Annotated[int, typer.Option(help="People in the database; about 60 rows each.")] = 100_000,
    per_round: Annotated[int, typer.Option(help="People erased each way and round.")] = 1000,
    times: Annotated[int, typer.Option(help="Rounds.")] = 3,
    partitioned: Annotated[bool, typer.Option(help="Convert the event tables first, as in production.")] = True,
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Fill, migrate, convert, then erase in three ways; print rates and ratios."""
    report = Report()
    with benchmark_server(bin_dir) as server:
        report.step(f"making {accounts:,} people")
        url = make_people(server, "erasure", accounts)
        report.step("migrating")
        upgrade(url, APPLICATION)
        with connect_directly(url, application_name="benchmark") as conn:
            conn.execute("vacuum (analyze)")
            if partitioned:
                for table in monthly_tables(APPLICATION):
                    report.step(f"converting {table.relation}")
                    convert_table(url, table, now=datetime.now(UTC), progress=lambda _message, _fraction: None)
            total = value(
                conn,
                "select sum(n_live_tup) from pg_stat_user_tables where schemaname in ('public', 'event_partitions')",
            )
            with connect_directly(server.url("erasure", user=SUPERUSER), application_name="benchmark") as admin:
                ours, by_hand, one_by_one = compare(conn, admin, per_round, times, report)
            server_version = describe(url)
        report.step("done")
    ways = (ours, by_hand, one_by_one)
    title = f"Erasing people: {accounts:,} accounts, {total:,} rows, {server_version}"
    report.table(
        title,
        ("way", "accounts", "their rows", "verified", "seconds", "accounts/s", "of the limit"),
        [
            (
                *(w.name, f"{w.accounts:,}", f"{w.rows:,}", f"{w.verified:,}" if w is ours else "-"),
                *(f"{w.seconds:.1f}", f"{w.rate:,.0f}", f"{w.rate / by_hand.rate:.2f}"),
            )
            for w in ways
        ],
    )
    report.table(
        f"Steps of the lifecycle, per batch of {per_round:,}",
        ("step", "time"),
        [(name, milliseconds(seconds / times * 1000)) for name, seconds in ours.steps.items()],
    )
    search = ours.steps["search"] / times
    report.line(f"lifecycle / one by one: {ours.rate / one_by_one.rate:.1f} times as fast")
    of_limit = next(aim for people, aim in AIM_OF_LIMIT.items() if per_round >= people)
    report.aim(f"at least {of_limit:.0%} of the limit, without the proof", ours.rate >= of_limit * by_hand.rate)
    report.aim(f"refresh under {AIM_REFRESH_SECONDS} s", ours.steps["refresh"] / times < AIM_REFRESH_SECONDS)
    report.aim(
        f"search under {AIM_SEARCH_SECONDS} s (chunks of {ERASURE.chunk_size} accounts share it)",
        search < AIM_SEARCH_SECONDS,
    )
    if json:
        write_json(json, title, ways)


if __name__ == "__main__":
    typer.run(main)
