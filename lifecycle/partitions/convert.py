"""Turn one event table into monthly partitions while the application goes on reading and writing it.

Every step reads from the catalog how far an earlier run came, so a run killed anywhere is finished by the next one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal

import psycopg
from psycopg import sql

from lifecycle.database import Connection, connect_directly, operation_lock, politely, value
from lifecycle.errors import BusyError, LifecycleError, RefusedError
from lifecycle.pacing import UNPACED, Pacing
from lifecycle.partitions.attach import (
    attach_whole,
    build_key_index,
    let_owner_in,
    remember_storage_options,
    restore_autovacuum,
    swap_names,
    switch_autovacuum_off,
)
from lifecycle.partitions.capture import forget_truncation, start_capture, stop_capture, was_truncated
from lifecycle.partitions.catalog import Names, TableStructure, is_partition_of_ours, table_structure
from lifecycle.partitions.dependents import switch_dependents
from lifecycle.partitions.exchange import add_foreign_keys, catch_up, exchange, require_capture
from lifecycle.partitions.given_up import leave_as_it_was, remembered_options
from lifecycle.partitions.plan import plan_conversion
from lifecycle.partitions.split import (
    analyze_indexed,
    build_targets,
    drop_targets,
    existing_targets,
    outdated_targets,
    split_targets,
)
from lifecycle.partitions.status import partition_status
from lifecycle.partitions.tables import MonthlyTable
from lifecycle.partitions.verify import verify_copies

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class ConversionResult:
    """What a conversion did. `longest_lock_ms`: the longest of its transactions that kept writers out."""

    table: MonthlyTable
    outcome: Literal["converted", "attached", "already_partitioned"]
    rows: int
    months: int
    default_rows: int
    dependents_switched: tuple[str, ...]
    seconds: float
    longest_lock_ms: float


def convert_table(
    url: str,
    table: MonthlyTable,
    *,
    split_now: bool = True,
    now: datetime,
    pacing: Pacing = UNPACED,
    progress: Progress,
) -> ConversionResult:
    """Convert `table`, or go on where an earlier run stopped; `split_now=False` stops once the old table is attached.

    `progress(message, fraction)` is called after each step. Raises RefusedError with the plan's reasons, BusyError when
    a lock stays taken, AlreadyRunningError, VerificationError when a copy differs from its source.
    """
    started = time.perf_counter()
    with (
        connect_directly(url, application_name="lifecycle convert") as conn,
        operation_lock(conn, "convert_event_tables"),
    ):
        plan = plan_conversion(conn, table, now)
        _refuse(table, plan.state, plan.refusals)
        if plan.state == "done":
            return _result(conn, table, "already_partitioned", (), started, 0.0, now)
        try:
            names = Names(table)
            switched, attach_ms = _attach(conn, names, progress)
            split_ms = 0.0
            # A run that died after the exchange has nothing left to put off.
            split_now = split_now or (plan.state == "resumable" and not _legacy_attached(conn, names))
            if split_now:
                split_ms = _split(conn, url, names, now, pacing, progress)
            else:
                restore_autovacuum(conn, names.legacy, remembered_options(conn, table))
        except BaseException as error:
            # What passes, or a person who stops the run, is followed by another run.
            passes = isinstance(error, BusyError) or not isinstance(error, Exception)
            leave_as_it_was(conn, names, keep_index=passes)
            if not isinstance(error, psycopg.errors.InsufficientPrivilege):
                raise
            raise RefusedError(
                f"{table.qualified_name}: {error.diag.message_primary}. Connect as the owner of the named object "
                "(or grant that role to the one you use), then run the conversion again; it goes on where it stopped."
            ) from error
        outcome: Literal["converted", "attached"] = "converted" if split_now else "attached"
        progress(f"{table.name}: {outcome}", 1.0)
        return _result(conn, table, outcome, switched, started, max(attach_ms, split_ms), now)


def _refuse(table: MonthlyTable, state: str, refusals: tuple[str, ...]) -> None:
    if state in ("missing", "refused"):
        reasons = "\n".join(f"  - {reason}" for reason in refusals)
        raise RefusedError(f"{table.qualified_name} cannot be partitioned:\n{reasons}")
    if state == "not_migrated":
        raise RefusedError(f"{table.qualified_name}: the database does not know it yet; run `lifecycle migrate` first")


def _structure(conn: Connection, qualified_name: str) -> TableStructure:
    found = table_structure(conn, qualified_name)
    if found is None:
        raise LifecycleError(f"{qualified_name} disappeared during the conversion; run it again")
    return found


def _attach(conn: Connection, names: Names, progress: Progress) -> tuple[tuple[str, ...], float]:
    """Steps up to the swap of names; none of them when an earlier run came that far."""
    table = names.table
    old = _structure(conn, table.qualified_name)
    if old.partitioned:
        return (), 0.0
    longest = 0.0
    if not is_partition_of_ours(conn, table):
        progress(f"{table.name}: building the key index, {old.rows:,} rows", 0.01)
        remember_storage_options(conn, names, old)
        let_owner_in(conn, old)
        build_key_index(conn, names, old)
        progress(f"{table.name}: key index built", 0.05)
        switch_autovacuum_off(conn, names.public)
        progress(f"{table.name}: autovacuum off until the swap", 0.06)
        longest = attach_whole(conn, names, old)
        progress(f"{table.name}: attached to its new parent in {longest:.0f} ms", 0.07)
        old = _structure(conn, table.qualified_name)
    switched: tuple[str, ...] = ()
    for _ in range(10):
        more, _ = switch_dependents(conn, names, old.oid)
        switched += more
        progress(f"{table.name}: {len(more)} views switched to the parent", 0.08)
        swap_ms = swap_names(conn, names, old)
        if swap_ms is not None:
            break
    else:
        raise BusyError(
            f"{table.qualified_name}: new views of the old table kept appearing; stop what makes them, run this again"
        )
    progress(f"{table.name}: names swapped in {swap_ms:.0f} ms", 0.1)
    return switched, max(longest, swap_ms)


def _legacy_attached(conn: Connection, names: Names) -> bool:
    """Whether the old table is a partition under its new name: swapped, and not split yet."""
    query = "select relispartition from pg_class where oid = to_regclass(%s)"
    return bool(value(conn, query, (names.legacy.as_string(conn),)))


def _split(conn: Connection, url: str, names: Names, now: datetime, pacing: Pacing, progress: Progress) -> float:
    table = names.table
    legacy = names.legacy.as_string(conn)
    longest = 0.0
    options = remembered_options(conn, table)
    if _legacy_attached(conn, names):
        switch_autovacuum_off(conn, names.legacy)
        fresh = start_capture(conn, names, _structure(conn, legacy))
        # Read after the wait for the trigger's lock: the application may have changed the table meanwhile.
        old = replace(_structure(conn, legacy), storage_options=options)
        progress(f"{table.name}: capturing changes", 0.12)
        targets = split_targets(conn, names, now)
        # The default holds what the other targets of this very run do not; anything else is only good with its trigger.
        fresh = fresh or was_truncated(conn, names, old)
        wanted = set() if fresh else {target.name for target in targets if not target.is_default}
        existing = existing_targets(conn, names)
        wanted -= outdated_targets(conn, names, existing & wanted)
        drop_targets(conn, names, existing - wanted)
        if fresh:
            # Only now that no copy from before is left: a mark that comes later must stop this run.
            forget_truncation(conn, names, old)
        build_targets(
            url,
            names,
            old,
            targets,
            existing & wanted,
            pacing,
            lambda message, done: progress(message, 0.12 + 0.68 * done),
        )
        prepare = f"{table.name}: {len(targets)} partitions built"
        progress(prepare, 0.8)
        catch_up(conn, names, old, targets)
        add_foreign_keys(conn, names, old, targets)
        catch_up(conn, names, old, targets)
        progress(f"{table.name}: changes replayed, foreign keys valid", 0.85)
        require_capture(conn, names)
        checked = verify_copies(conn, url, names, old, targets)
        progress(f"{table.name}: {checked:,} rows agree in count and checksum", 0.93)
        # Now, over the one old partition; after the exchange it would read each new one again.
        conn.execute(analyze_indexed(conn, names, names.public))
        longest = exchange(conn, names, old, targets)
        progress(f"{table.name}: partitions exchanged in {longest:.0f} ms", 0.95)
    _finish(conn, names, options, progress)
    return longest


def _finish(conn: Connection, names: Names, options: tuple[str, ...], progress: Progress) -> None:
    """What follows the exchange: the old table, the capture and the bounds go, autovacuum comes back."""
    table = names.table
    legacy = names.legacy.as_string(conn)
    droppable = value(
        conn,
        "select not relispartition and obj_description(oid, 'pg_class') like 'lifecycle:detached of %%'"
        " from pg_class where oid = to_regclass(%s)",
        (legacy,),
    )
    if droppable:
        drop = sql.SQL("drop table {}").format(names.legacy)
        politely(conn, lambda: conn.execute(drop), what=f"dropping the old table {legacy}", relation=legacy)
    progress(f"{table.name}: old table dropped", 0.96)
    stop_capture(conn, names)
    # Attached, the bounds hold by themselves; dropped one by one, no writer waits for all of them.
    for (partition,) in conn.execute(
        "select p.name from lifecycle.event_partitions_of(to_regclass(%s)) p join pg_constraint k"
        " on k.conrelid = p.partition where k.conname = 'lifecycle_bounds'",
        (table.qualified_name,),
    ).fetchall():
        place = names.partition(partition)
        drop_bounds = sql.SQL("alter table {} drop constraint lifecycle_bounds").format(place)
        politely(
            conn, partial(conn.execute, drop_bounds), what=f"bounds of {partition}", relation=place.as_string(conn)
        )
    for (partition,) in conn.execute(
        "select p.name from lifecycle.event_partitions_of(to_regclass(%s)) p join pg_class c on c.oid = p.partition"
        " where 'autovacuum_enabled=false' = any (c.reloptions)",
        (table.qualified_name,),
    ).fetchall():
        restore_autovacuum(conn, names.partition(partition), options)
    conn.execute(
        "update lifecycle.partition_conversions set finished_at = clock_timestamp()"
        " where schema_name = %s and table_name = %s",
        (table.schema, table.name),
    )
    progress(f"{table.name}: cleaned up", 0.99)


def _result(
    conn: Connection,
    table: MonthlyTable,
    outcome: Literal["converted", "attached", "already_partitioned"],
    switched: tuple[str, ...],
    started: float,
    longest_lock_ms: float,
    now: datetime,
) -> ConversionResult:
    status = partition_status(conn, table, now)
    return ConversionResult(
        table=table,
        outcome=outcome,
        rows=status.rows,
        months=sum(not partition.is_default for partition in status.partitions),
        default_rows=status.default_rows,
        dependents_switched=switched,
        seconds=round(time.perf_counter() - started, 2),
        longest_lock_ms=round(longest_lock_ms, 1),
    )
