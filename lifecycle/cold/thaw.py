"""Rows are taken out of a file, so that they can be changed in the database: the file is written anew without them.

The database then does to them what it does to any row of the event table. They go back into a file of their month with
the next move (refreeze.py). Until then a restore or a reader of cold months finds them in the thawed table.
"""

import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg import sql

from lifecycle.cold import manifest
from lifecycle.cold.columns import ColdColumn, read_columns
from lifecycle.cold.files import ColdFile, Figures, RowNumbers, read_file
from lifecycle.cold.home import require_home
from lifecycle.cold.load import columns_to_load, copy_rows, newer_columns_as_of_old_rows
from lifecycle.cold.manifest import ManifestFile
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.tables import narrow_name
from lifecycle.database import Connection, value
from lifecycle.errors import BusyError, VerificationError

THAWED: Final = """
select lifecycle.thawed_table(p)::text from lifecycle.event_table_policies p
 where p.schema_name = %s and p.table_name = %s
"""
TIME_COLUMN: Final = """
select p.time_column from lifecycle.event_table_policies p where p.schema_name = %s and p.table_name = %s
"""
# A row changes its place, which changes no figure.
MOVES_ROWS: Final = "set local lifecycle.moves_rows = 'yes'"
OUT_OF_NARROW: Final = """
select lifecycle.thaw_narrow_rows(p, %s) from lifecycle.event_table_policies p
 where p.schema_name = %s and p.table_name = %s
"""
STILL_LIVE: Final = "select f.state = 'live' from lifecycle.cold_files f where f.id = %s for update"
MOVE_OF_FILE: Final = "select f.move_id from lifecycle.cold_files f where f.id = %s"
MAKE_LIVE: Final = (
    "update lifecycle.cold_files set state = 'live', live_at = clock_timestamp() where id = %s and state = 'stored'"
)


@dataclass(frozen=True)
class Thawed:
    """Rows that left a file; `replacement` is the id of the file without them, None when nothing was left for one."""

    rows: int
    replacement: int | None


def thaw(conn: Connection, storage: ColdStorage, file: ManifestFile, positions: Collection[int]) -> Thawed:
    """Take the rows at these positions (from 0) of a live file into the thawed table.

    The file is retired, not removed; remove_retired() does that. Cut off anywhere, the rows are where they were. Raises
    BusyError when somebody else exchanged the file meanwhile, VerificationError when the two parts are not the whole,
    RefusedError in a copy of the database.
    """
    require_home(conn)
    columns = manifest.columns_of(conn, file.layout)
    names = (file.relation.schema, file.relation.name)
    time_column = str(value(conn, TIME_COLUMN, names))
    wanted = frozenset(positions)
    with tempfile.TemporaryDirectory(prefix="lifecycle-cold-") as scratch:
        folder = Path(scratch)
        storage.fetch(file.stored, folder / "old.parquet")
        taken, left = _split(folder, file, columns, time_column, wanted)
        if taken + left != file.figures or taken.rows != len(wanted):
            raise VerificationError(
                f"{file.key}: {taken.rows:,} and {left.rows:,} rows are not the {file.rows:,} that the manifest tells "
                "of. Nothing was changed; `lifecycle cold verify` says which files differ."
            )
        replacement = _put(conn, storage, file, folder / "left.parquet", left) if left.rows else None
        with conn.transaction():
            conn.execute(MOVES_ROWS)
            if not value(conn, STILL_LIVE, (file.id,)):
                raise BusyError(f"{file.key}: another session exchanged it meanwhile; run this again")
            target = sql.SQL(str(value(conn, THAWED, names)))
            kept = columns_to_load(columns, read_columns(conn, file.relation))
            with newer_columns_as_of_old_rows(conn, target, file.relation, columns):
                copy_rows(conn, target, kept, read_file(folder / "taken.parquet", columns))
            hidden = value(conn, OUT_OF_NARROW, (file.month, *names))
            if hidden not in (None, taken.rows):
                raise VerificationError(
                    f"{file.key}: {taken.rows:,} rows were taken out and {hidden:,} of them stood in what views read "
                    f"of its month ({narrow_name(file.relation)}). Nothing was changed; restore the month and move it "
                    "again, which builds that anew."
                )
            manifest.retire(conn, [file.id])
            if replacement is not None and conn.execute(MAKE_LIVE.encode(), (replacement,)).rowcount != 1:
                raise BusyError(f"{file.key}: another session took the file without those rows away; run this again")
    return Thawed(taken.rows, replacement)


def _split(
    folder: Path, file: ManifestFile, columns: tuple[ColdColumn, ...], time_column: str, wanted: frozenset[int]
) -> tuple[Figures, Figures]:
    """Write the wanted rows and the others into two files; the figures of both."""
    import numpy as np
    import pyarrow as pa

    about = {"table": str(file.relation), "month": f"{file.month:%Y-%m}", "layout": str(file.layout)}
    paths = (folder / "taken.parquet", folder / "left.parquet")
    parts = [ColdFile(path, columns, time_column, about) for path in paths]
    figures = [Figures(), Figures()]
    places = np.fromiter(wanted, dtype=np.int64, count=len(wanted))
    start = 0
    with RowNumbers(columns) as numbers:
        for batch in read_file(folder / "old.parquet", columns):
            is_wanted = np.isin(np.arange(start, start + batch.num_rows), places)
            start += batch.num_rows
            for number, mask in enumerate((is_wanted, ~is_wanted)):
                if mask.any():
                    part = batch.filter(pa.array(mask))
                    figures[number] += numbers.figures(part)
                    parts[number].write(part)
    for part_file in parts:
        part_file.close()
    return figures[0], figures[1]


def _put(conn: Connection, storage: ColdStorage, file: ManifestFile, path: Path, figures: Figures) -> int:
    """Store what is left as a file of its own; its id."""
    move = int(value(conn, MOVE_OF_FILE, (file.id,)))
    folder = file.key.rpartition("/")[0]
    key = f"{folder}/{move}-{time.time_ns():x}-{file.bucket}.parquet"
    planned = manifest.plan_file(conn, move, key, file.layout, file.bucket, file.buckets, file.split_by)
    manifest.file_stored(conn, planned, storage.put(key, path), figures.rows)
    manifest.file_verified(conn, planned, figures)
    return planned
