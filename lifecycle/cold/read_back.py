"""What the store gives out of a file that was put there."""

import tempfile
from pathlib import Path

from lifecycle.cold.columns import ColdColumn
from lifecycle.cold.files import Figures, figures_of_file
from lifecycle.cold.manifest import ManifestFile
from lifecycle.cold.storage import ColdStorage


def fetched_figures(storage: ColdStorage, file: ManifestFile, columns: tuple[ColdColumn, ...]) -> Figures:
    """Count and checksum of a file's rows as the store gives it out; ColdStorageError when it is another by now."""
    with tempfile.TemporaryDirectory(prefix="lifecycle-cold-") as scratch:
        path = Path(scratch) / "file.parquet"
        storage.fetch(file.stored, path)
        return figures_of_file(path, columns)
