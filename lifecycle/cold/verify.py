"""Whether every file of cold months is what the manifest says: fetched, counted and added up again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lifecycle.cold import manifest
from lifecycle.cold.read_back import fetched_figures
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.tables import ColdTable
from lifecycle.database import Connection
from lifecycle.errors import ColdStorageError


@dataclass(frozen=True)
class Verified:
    """A file, and what is wrong with it; None where nothing is."""

    file: manifest.ManifestFile
    fault: str | None


def verify_files(
    conn: Connection,
    table: ColdTable,
    storage: ColdStorage,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> Iterator[Verified]:
    """Each live file of the table with what is wrong with it; the store's errors are told of the file, not raised."""
    files = manifest.live_files(conn, table.relation)
    for number, file in enumerate(files):
        progress(f"{table.relation} {file.month:%Y-%m}: file {number + 1} of {len(files)}", number / len(files))
        try:
            found = fetched_figures(storage, file, manifest.columns_of(conn, file.layout))
        except ColdStorageError as error:
            yield Verified(file, str(error))
            continue
        agrees = found == file.figures
        yield Verified(
            file,
            None
            if agrees
            else f"{file.key}: holds {found.rows:,} rows with checksum {found.checksum}; the manifest says "
            f"{file.figures.rows:,} with {file.figures.checksum}",
        )
