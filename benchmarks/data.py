"""The server and the database that every candidate starts from: rows, indexes, views, foreign key."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from psycopg import sql

from benchmarks.clients import ACCOUNTS, COUNT, CREATE_VIEW, KnownHour
from lifecycle.database import connect_directly, rows, value
from lifecycle.partitions.months import add_months, month_start
from sandbox.application import create_application_database
from sandbox.placement import remove_abandoned_places
from sandbox.server import SUPERUSER, Server

TABLE: Final = "public.user_behavior_events"
LOADERS: Final = 2
# What one would set on a small machine of its own; durable, so that a commit costs what it costs.
SETTINGS: Final = {
    "shared_buffers": "2GB",
    "work_mem": "32MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "30min",
    "random_page_cost": "1.1",
}
FILL_ACCOUNTS: Final = """
insert into accounts (id) select lpad(to_hex(i), 32, '0')::uuid from generate_series(1, %s) i
"""
FILL_EVENTS: Final = """
insert into user_behavior_events
select gen_random_uuid(),
       case when random() < 0.85
            then lpad(to_hex(1 + (random() * %(accounts)s)::int %% %(accounts)s), 32, '0')::uuid end,
       'session_' || md5((i / 12)::text || (i %% 40)::text), at,
       'https://app.example.com/' || (array['dashboard', 'chat', 'settings', 'billing', 'map', 'search'])
           [1 + i %% 6] || '/' || (random() * 300)::int,
       'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/1'
           || (random() * 30)::int || '.0.0.0 Safari/537.36',
       (array['1920x1080', '1440x900', '390x844', '2560x1440'])[1 + i %% 4], '1280x' || (600 + (random() * 400)::int),
       'ja-JP', 'Asia/Tokyo', case when i %% 2 = 0 then 'https://www.google.com/' end,
       jsonb_build_array(jsonb_build_object('type', 'click', 'target', '#button-' || (random() * 50)::int,
                                            't', (random() * 5000)::int)),
       jsonb_build_object('load_ms', (random() * 3000)::int, 'ttfb_ms', (random() * 400)::int),
       jsonb_build_object('scrollDepth', (random() * 100)::int, 'timeOnPage', (random() * 300)::int), at
  from (select i, %(first)s::timestamptz + (%(last)s::timestamptz - %(first)s) * (i::float8 / %(rows)s) as at
          from generate_series(%(from)s::bigint, %(to)s) i) s
"""
INDEXES: Final = """
select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) from pg_index i
 where i.indrelid = to_regclass(%s) and not i.indisprimary
"""


@contextmanager
def benchmark_server(bin_dir: Path | None, *, durable: bool = True) -> Iterator[Server]:
    """A server that is gone, with all its data, when the block ends; it lies in the temporary folder (TMPDIR).

    `durable`: what is committed is on the disk; where nothing is timed that only takes longer.
    """
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-benchmark-"))
    # Root starts the server as another account, which must reach its data.
    folder.chmod(0o755)
    try:
        with Server(folder, bin_dir=bin_dir, durable=durable, settings=SETTINGS) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        remove_abandoned_places()


def create_filled_database(server: Server, name: str, count: int, months: int, now: datetime) -> str:
    """The application's database with `count` events spread over the last `months` months up to `now`.

    Indexes are built after the rows, and the foreign key is not asked for each of them. Returns the owner's URL.
    """
    url = create_application_database(server, name)
    first = add_months(month_start(now), 1 - months)
    with connect_directly(server.url(name, user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute(FILL_ACCOUNTS, (ACCOUNTS,))
        indexes = rows(admin, INDEXES, (TABLE,))
        for index, _ in indexes:
            admin.execute(sql.SQL("drop index {}").format(sql.SQL(index)))
        edges = [count * part // LOADERS for part in range(LOADERS + 1)]
        with ThreadPoolExecutor(LOADERS) as pool:
            for done in [
                pool.submit(_fill, server.url(name, user=SUPERUSER), start + 1, end, count, first, now)
                for start, end in pairwise(edges)
            ]:
                done.result()
        for _, definition in indexes:
            admin.execute(definition.encode())
        admin.execute("refresh materialized view daily_user_behavior_summary")
        admin.execute("set role postgres")
        admin.execute(CREATE_VIEW.encode())
        admin.execute("reset role")
        admin.execute("vacuum (analyze)")
    return url


def _fill(url: str, start: int, end: int, count: int, first: datetime, last: datetime) -> None:
    with connect_directly(url, application_name="benchmark") as conn:
        conn.execute("set session_replication_role = replica")  # no foreign key check for each row
        conn.execute("set synchronous_commit = off")
        conn.execute(
            FILL_EVENTS.encode(),
            {"accounts": ACCOUNTS, "first": first, "last": last, "rows": count, "from": start, "to": end},
        )


def copy_database(server: Server, template: str, name: str) -> str:
    """A copy of `template` made file by file: the log and the cache of the server stay as they were."""
    with connect_directly(server.url(user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute(
            sql.SQL("create database {} owner postgres template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        admin.execute(
            sql.SQL('alter database {} set search_path = "$user", public, extensions').format(sql.Identifier(name))
        )
    return server.url(name)


def known_hours(url: str, months: int, now: datetime) -> list[KnownHour]:
    """An hour of every third month with the rows it holds; months that hold none are left out."""
    with connect_directly(url, application_name="benchmark") as conn:
        hours = []
        for back in range(1, months - 1, 3):
            start = add_months(month_start(now), -back) + timedelta(days=7)
            count = value(conn, COUNT, (start, start + timedelta(hours=1)))
            if count:
                hours.append(KnownHour(start, count))
    return hours


# A partitioned table has no file of its own.
SIZE: Final = """
select pg_total_relation_size(to_regclass(%s))
       + (select coalesce(sum(pg_total_relation_size(t.relid)), 0) from pg_partition_tree(to_regclass(%s)) t
           where t.level > 0)
"""


def describe(url: str) -> str:
    """Server version, rows' size and cores, for a title."""
    with connect_directly(url, application_name="benchmark") as conn:
        version = value(conn, "show server_version").split()[0]
        size = float(value(conn, SIZE, (TABLE, TABLE)))
    return f"PostgreSQL {version}, {size / 1e9:.1f} GB with indexes, {os.cpu_count()} cores"
