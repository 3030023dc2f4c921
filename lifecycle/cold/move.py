"""One month of one table leaves the database for files.

pending, exporting, uploaded, verified, committed, cleaned: each step is known to the manifest before the next one
begins, and a run that finds a move half done goes on with it. Until `committed` readers find the rows in the database,
from then on in files; the one transaction between the two drops the partition. Files written in vain are removed.
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.cold import manifest, moves
from lifecycle.cold.columns import ColdColumn, read_columns
from lifecycle.cold.due import MonthToMove
from lifecycle.cold.export import buckets_for, export_files, export_of, figures_by_bucket, require_finite
from lifecycle.cold.files import Figures
from lifecycle.cold.read_back import fetched_figures
from lifecycle.cold.readers import require_readers_see_cold_rows
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.sweep import month_lock, remove_retired
from lifecycle.cold.tables import ColdTable
from lifecycle.database import Connection, connect_directly, operation_lock, politely, rows, value
from lifecycle.errors import BusyError, ColdStorageError, RefusedError, VerificationError
from lifecycle.pacing import UNPACED, Pacing
from lifecycle.partitions.tables import PARTITION_SCHEMA

CHANGED: Final = "select lifecycle.changed_since_read(%s, to_regclass(%s))"
FORGET_CHANGES: Final = "delete from lifecycle.cold_changes where relation = to_regclass(%s)"
# A table that was never analyzed has no estimate, but it has a size.
ESTIMATE: Final = """
select greatest(c.reltuples, pg_relation_size(c.oid) / 1000)::bigint, pg_table_size(c.oid)
  from pg_class c where c.oid = to_regclass(%s)
"""
# What views read of the month, beside the partition; null where no view reads cold months.
BUILD_NARROW: Final = """
select lifecycle.build_narrow_month(p, %(month)s, to_regclass(%(partition)s))
  from lifecycle.event_table_policies p where p.schema_name = %(schema)s and p.table_name = %(table)s
"""
# Kept views are told of rows that they lose: somebody accepted that.
NOTE_LOST_ROWS: Final = """
select lifecycle.note_dropped_rows(%s, %s, to_regclass(%s))
 where to_regprocedure('lifecycle.note_dropped_rows(text,text,regclass)') is not null
"""
# So often a month is read again because somebody changed a row meanwhile.
ATTEMPTS: Final = 3


@dataclass(frozen=True)
class MonthMoved:
    """What became of a month: its rows now stand in so many files; bytes before (with indexes) and after."""

    month: datetime
    partition: str
    rows: int
    files: int
    hot_bytes: int
    cold_bytes: int
    seconds: float


Progress = Callable[[str, float], None]


def move_month(
    url: str,
    table: ColdTable,
    due: MonthToMove,
    storage: ColdStorage,
    *,
    pacing: Pacing = UNPACED,
    progress: Progress = lambda _message, _fraction: None,
) -> MonthMoved:
    """Move one month; finishes what an earlier run began.

    Raises AlreadyRunningError while another session moves the same month, BusyError when a lock stays taken or rows
    keep changing, RefusedError when the month cannot go or something would answer otherwise without it,
    VerificationError when a file differs from what was read, ColdStorageError when the store fails. In each case every
    row is where it was.
    """
    started = time.perf_counter()
    told = f"{table.relation} {due.month:%Y-%m}"
    with (
        connect_directly(url, application_name="lifecycle cold") as conn,
        operation_lock(conn, month_lock(table.relation, due.month)),
    ):
        move = _Move(conn, url, table, due, storage, progress, pacing, told)
        require_readers_see_cold_rows(conn, table)
        for _ in range(ATTEMPTS):
            if move.state not in ("uploaded", "verified"):
                move.export()
            if move.state == "uploaded":
                move.verify()
            if move.state == "verified" and move.commit():
                break
        else:
            raise BusyError(
                f"{told}: rows were changed each of {ATTEMPTS} times while it was read. It stays in the database; run "
                "this again when nobody corrects old rows."
            )
        remove_retired(conn, storage)
        move.set_state("cleaned")
        files = manifest.files_of_move(conn, move.id, ["live"])
        count, hot_bytes = moves.rows_and_bytes(conn, move.id)
        progress(f"{told}: {count:,} rows in {len(files)} files", 1.0)
        return MonthMoved(
            month=due.month,
            partition=due.partition,
            rows=count,
            files=len(files),
            hot_bytes=hot_bytes,
            cold_bytes=sum(file.bytes or 0 for file in files),
            seconds=round(time.perf_counter() - started, 2),
        )


class _Move:
    """A move at work, whatever an earlier run left of it."""

    def __init__(
        self,
        conn: Connection,
        url: str,
        table: ColdTable,
        due: MonthToMove,
        storage: ColdStorage,
        progress: Progress,
        pacing: Pacing,
        told: str,
    ) -> None:
        self.conn, self.url, self.table, self.due = conn, url, table, due
        self.storage, self.progress, self.pacing, self.told = storage, progress, pacing, told
        self.id = moves.open_move(conn, table.relation, due.month, due.partition)
        self.partition = sql.Identifier(PARTITION_SCHEMA, due.partition)
        self.place = self.partition.as_string(conn)

    @property
    def state(self) -> str:
        return moves.state_of(self.conn, self.id)

    def set_state(self, state: str) -> None:
        moves.set_state(self.conn, self.id, state)

    def export(self) -> None:
        """Read the partition once and put its files into the store; what an earlier try stored is retired.

        It ends early, and is to be done again, when a row was changed meanwhile.
        """
        conn, table = self.conn, self.table
        manifest.retire(conn, [file.id for file in manifest.files_of_move(conn, self.id, ["planned", "stored"])])
        note = sql.SQL("select lifecycle.note_cold_changes_of({}::regclass)").format(sql.Literal(self.place))
        politely(conn, partial(conn.execute, note), what=f"noting changes of {self.told}", relation=self.place)
        # What is noted so far was committed before the rows are read.
        conn.execute(FORGET_CHANGES.encode(), (self.place,))
        rows_file = moves.file_of(conn, self.place)
        columns = read_columns(conn, table.relation)
        require_finite(conn, self.partition, columns)
        layout, version = manifest.layout_of(conn, table.relation, columns)
        moves.begin(conn, self.id, layout, self.place, self.due.partition, rows_file)
        expected, size = rows(conn, ESTIMATE, (self.place,))[0]
        export = export_of(conn, table, self.partition, columns, buckets_for(expected, size))
        count = 0
        about = {"table": str(table.relation), "month": f"{self.due.month:%Y-%m}", "layout": str(version)}
        with (
            tempfile.TemporaryDirectory(prefix="lifecycle-cold-") as scratch,
            closing(export_files(self.url, export, Path(scratch), about, self._reads(expected))) as files,
        ):
            for written in files:
                # What was read is worth nothing any more, and nobody shall find it in the store.
                if value(conn, CHANGED, (self.id, self.place)):
                    self.set_state("pending")
                    return
                with self.pacing.work():
                    key = f"{table.folder}{self.due.month:%Y-%m}/{self.id}-{time.time_ns():x}-{written.bucket}.parquet"
                    file = manifest.plan_file(
                        conn, self.id, key, layout, written.bucket, export.buckets, table.split_by
                    )
                    stored = self.storage.put(key, written.path)
                    manifest.file_stored(conn, file, stored, written.rows)
                    written.path.unlink()
                count += written.rows
        moves.rows_read(conn, self.id, count)

    def _reads(self, expected: int) -> Callable[[int], None]:
        def progress(done: int) -> None:
            self.progress(f"{self.told}: {done:,} rows read", 0.7 * min(1.0, done / max(expected, 1)))

        return progress

    def verify(self) -> None:
        """Fetch every file and compare count and checksum of its rows with those of the partition's rows.

        A row that was changed since makes them differ, too; then the month is read again, and nothing is wrong.
        """
        files = manifest.files_of_move(self.conn, self.id, ["stored"])
        columns = (
            manifest.columns_of(self.conn, files[0].layout) if files else read_columns(self.conn, self.table.relation)
        )
        buckets = files[0].buckets if files else 1
        with ThreadPoolExecutor(1) as beside:
            expected = beside.submit(self._expected, columns, buckets)
            found: dict[int, Figures] = {}
            for number, file in enumerate(files):
                with self.pacing.work():
                    try:
                        found[file.bucket] = fetched_figures(self.storage, file, columns)
                    except ColdStorageError:
                        # An erasure that changed a row of the month has removed it.
                        if not value(self.conn, CHANGED, (self.id, self.place)):
                            raise
                        self.set_state("pending")
                        return
                manifest.file_verified(self.conn, file.id, found[file.bucket])
                self.progress(
                    f"{self.told}: {number + 1} of {len(files)} files read back", 0.7 + 0.25 * number / len(files)
                )
            wanted = expected.result()
        if found == wanted:
            self.set_state("verified")
            return
        self.set_state("pending")
        if value(self.conn, CHANGED, (self.id, self.place)):
            return
        wrong = sorted(bucket for bucket in found.keys() | wanted.keys() if found.get(bucket) != wanted.get(bucket))
        raise VerificationError(
            f"{self.told}: {len(wrong)} of {len(files)} files differ from the partition's rows, such as number "
            f"{wrong[0]}: {found.get(wrong[0], Figures()).rows:,} rows for {wanted.get(wrong[0], Figures()).rows:,}. "
            "The month stays in the database; the next run exports it anew."
        )

    def _expected(self, columns: tuple[ColdColumn, ...], buckets: int) -> dict[int, Figures]:
        with connect_directly(self.url, application_name="lifecycle cold verify") as conn:
            return figures_by_bucket(conn, self.table, self.partition, columns, buckets)

    def commit(self) -> bool:
        """Drop the partition and let readers look into the files, at one moment; False when a row was changed."""
        if not self._keep_what_views_read():
            self.set_state("pending")
            return False
        try:
            outcome, _ = politely(
                self.conn,
                self._leave,
                what=f"{self.told} leaves the database",
                relation=str(self.table.relation),
                also=(self.place,),
            )
        except psycopg.errors.DataCorrupted as other_rows:
            self.set_state("pending")
            raise VerificationError(
                f"{self.told}: {other_rows.diag.message_primary}. The month stays in the database; the next run "
                "exports it anew."
            ) from other_rows
        if outcome == "committed":
            return True
        self.set_state("pending")
        if outcome == "gone":
            raise RefusedError(
                f"{self.told}: {self.place} is not the partition any more that was read. Nothing was dropped; run this "
                "again."
            )
        return False

    def _keep_what_views_read(self) -> bool:
        """Fill the month's part of the narrow table beside it; False when it has other rows than were read."""
        require_readers_see_cold_rows(self.conn, self.table)
        names = {"schema": self.table.relation.schema, "table": self.table.relation.name}
        kept = value(self.conn, BUILD_NARROW, names | {"month": self.due.month, "partition": self.place})
        return kept is None or kept == moves.rows_and_bytes(self.conn, self.id)[0]

    def _leave(self) -> str:
        if self.table.accept_changed_views:
            names = (self.table.relation.schema, self.table.relation.name, self.place)
            self.conn.execute(NOTE_LOST_ROWS.encode(), names)
        try:
            return str(value(self.conn, "select lifecycle.commit_cold_move(%s)", (self.id,)))
        except psycopg.errors.UniqueViolation as twice:
            raise RefusedError(
                f"{self.told}: a row came late that has the key of a row of the month that is in a file already "
                f"({twice.diag.constraint_name}). It stays in the database; delete it there, then run this again."
            ) from twice
