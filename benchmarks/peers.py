"""What one would do without this project, each written as its users write it.

Both conversions give the new table what the old one has and PostgreSQL allows: key, indexes, foreign key, grants.
Neither knows of the views, which go on reading the old table; so the old table cannot be dropped.
"""

from datetime import datetime
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.database import connect_directly, politely, value
from lifecycle.partitions.months import add_months, month_range, month_start, partition_name

# Default privileges of the database open the new table to the API roles as they did the old one.
RENAME_AND_RECREATE: Final = """
alter table public.user_behavior_events rename to user_behavior_events_old;
create table public.user_behavior_events (
    like public.user_behavior_events_old including defaults including storage including comments
) partition by range (event_timestamp);
alter table public.user_behavior_events add primary key (id, event_timestamp);
create index on public.user_behavior_events (account_id, event_timestamp desc);
create index on public.user_behavior_events (session_id, event_timestamp desc);
create index on public.user_behavior_events (event_timestamp desc);
create index on public.user_behavior_events (page_url);
alter table public.user_behavior_events add foreign key (account_id) references public.accounts (id) on delete set null
"""
PARTMAN_AVAILABLE: Final = """
select exists (select from pg_available_extensions where name = 'pg_partman' and default_version like '4.%')
"""
# The grants that its README asks for.
PARTMAN_INSTALL: Final = """
create schema partman;
create extension pg_partman schema partman;
grant all on schema partman to postgres;
grant all on all tables in schema partman to postgres;
grant execute on all functions in schema partman to postgres;
grant execute on all procedures in schema partman to postgres
"""
PARTMAN_CREATE_PARENT: Final = """
select partman.create_parent('public.user_behavior_events', 'event_timestamp', 'native', 'monthly')
"""
# A tenth of a partition at a time, as its how-to does; without the pause of one second after each that is its default.
PARTMAN_MOVE: Final = """
call partman.partition_data_proc('public.user_behavior_events', p_interval := '3 days', p_batch := 100000, p_wait := 0,
                                 p_source_table := 'public.user_behavior_events_old', p_quiet := true)
"""

PARTMAN_START: Final = """
select partman.create_parent('public.user_behavior_events', 'event_timestamp', 'native', 'monthly',
                             p_start_partition := %s)
"""
# Two more months ahead; what is past retention is dropped, as here.
PARTMAN_POLICY: Final = """
update partman.part_config set premake = premake + 2, retention = %s, retention_keep_table = false
"""


def single_transaction(url: str, months: int, now: datetime) -> None:
    """Rename, create the partitions, INSERT ... SELECT, commit."""
    this_month = month_start(now)
    with connect_directly(url, application_name="benchmark single transaction") as conn:
        with conn.transaction():
            conn.execute(RENAME_AND_RECREATE.encode())
            for month in month_range(add_months(this_month, 1 - months), add_months(this_month, 3)):
                conn.execute(
                    sql.SQL("create table {} partition of {} for values from ({}) to ({})").format(
                        sql.Identifier("public", partition_name("user_behavior_events", month)),
                        sql.Identifier("public", "user_behavior_events"),
                        sql.Literal(month),
                        sql.Literal(add_months(month, 1)),
                    )
                )
            conn.execute("insert into public.user_behavior_events select * from public.user_behavior_events_old")
        conn.execute("analyze public.user_behavior_events")


def partman_available(url: str) -> bool:
    """Whether pg_partman 4 is installed beside this server; later versions take other arguments."""
    with connect_directly(url, application_name="benchmark") as conn:
        return bool(value(conn, PARTMAN_AVAILABLE))


def install_partman(admin_url: str) -> None:
    """Create the extension and let the tables' owner use it."""
    with connect_directly(admin_url, application_name="benchmark") as conn:
        conn.execute(PARTMAN_INSTALL.encode())


def partman_offline(url: str) -> None:
    """Offline partitioning of pg_partman's how-to: new table under the old name, then the rows move in batches."""
    with connect_directly(url, application_name="benchmark pg_partman") as conn:

        def swap() -> psycopg.Cursor[tuple[object, ...]]:
            conn.execute(RENAME_AND_RECREATE.encode())
            return conn.execute(PARTMAN_CREATE_PARENT.encode())

        politely(conn, swap, what="pg_partman's create_parent", relation="public.user_behavior_events")
        conn.execute(PARTMAN_MOVE.encode())
        conn.execute("vacuum analyze public.user_behavior_events")
        conn.execute("vacuum analyze public.user_behavior_events_old")


def partman_partitioned(url: str, first: datetime, retention: str) -> None:
    """Partition the table in pg_partman's care from `first` on, rows included, with two months yet to be made."""
    with connect_directly(url, application_name="benchmark pg_partman") as conn:
        with conn.transaction():
            conn.execute(RENAME_AND_RECREATE.encode())
            conn.execute(PARTMAN_START.encode(), (first.isoformat(),))
            conn.execute("insert into public.user_behavior_events select * from public.user_behavior_events_old")
            conn.execute("truncate public.user_behavior_events_old")
            conn.execute(PARTMAN_POLICY.encode(), (retention,))
        conn.execute("vacuum (analyze) public.user_behavior_events")


def partman_maintenance(url: str) -> None:
    """What pg_partman's documentation asks to be run on a schedule."""
    with connect_directly(url, application_name="benchmark pg_partman") as conn:
        conn.execute("call partman.run_maintenance_proc()")
