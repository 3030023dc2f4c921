"""Rows on their way into the files of a month: split by person and sorted here, so that the database sorts nothing."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lifecycle.cold.objects import disk_told

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# Bytes of one file that are sorted at a time; memory is to stay flat whatever a single person has done.
IN_MEMORY: Final = 64 * 2**20
MOST_KNOWN: Final = 100_000


def bucket_of(key: str, buckets: int) -> int:
    """The file in which rows with this text in the deciding column stand; as bucket_expression() in PostgreSQL."""
    return int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest()[:4]) % buckets


class SplitRows:
    """Rows of a relation, each kept on the disk with those of its file until all are there.

    `key`: the columns of which the first that a row has decides, or one with its text. A file is sorted by that and by
    time; one of more than IN_MEMORY bytes in pieces of that size, each sorted by itself. What waits has no name in
    `folder` and is gone with the process. Memory holds a batch, or such a piece.
    """

    def __init__(self, folder: Path, schema: "pa.Schema", key: Sequence[str], time_column: str, buckets: int) -> None:
        import numpy as np
        import pyarrow as pa

        self._folder, self._schema, self._key, self._time_column = folder, schema, key, time_column
        self._buckets = buckets
        self._known, self._buckets_of_known = pa.array([], pa.string()), np.array([], dtype=np.int32)
        self._waiting: list[list[tuple[int, int]]] = [[] for _ in range(buckets)]
        with disk_told(folder):
            self._disk = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()

    def close(self) -> None:
        """Forget what waits."""
        with suppress(OSError):  # of a full disk was told already
            self._disk.close()

    def add(self, batch: "pa.RecordBatch") -> None:
        """Put rows to those of their files; ColdStorageError where the disk is full."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        chosen = self._buckets_of(batch)
        order = np.argsort(chosen, kind="stable")
        together = pc.take(batch, pa.array(order), memory_pool=pa.system_memory_pool())
        edges = np.searchsorted(chosen[order], np.arange(self._buckets + 1))
        for bucket in np.flatnonzero(np.diff(edges)).tolist():
            start, end = int(edges[bucket]), int(edges[bucket + 1])
            written = together.slice(start, end - start).serialize()
            with disk_told(self._folder):
                self._waiting[bucket].append((self._disk.tell(), self._disk.write(written)))

    def files(self) -> Iterator[tuple[int, Iterator["pa.RecordBatch"]]]:
        """Each file that has rows, with these in order."""
        with disk_told(self._folder):
            self._disk.flush()
        for bucket, pieces in enumerate(self._waiting):
            if pieces:
                yield bucket, chain.from_iterable(map(self._sorted, _runs(pieces)))

    def _buckets_of(self, batch: "pa.RecordBatch") -> "np.ndarray":
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._buckets == 1:
            return np.zeros(batch.num_rows, dtype=np.int32)
        found = self._people(batch)
        # People come again and again: each is asked for once, unless there are many.
        if len(self._known) > MOST_KNOWN:
            self._known, self._buckets_of_known = self._known[:0], self._buckets_of_known[:0]
        new = found.filter(pc.index_in(found, self._known).is_null()).unique()
        theirs = np.array([bucket_of(key, self._buckets) for key in new.to_pylist()], dtype=np.int32)
        self._known = pa.concat_arrays([self._known, new])
        self._buckets_of_known = np.concatenate([self._buckets_of_known, theirs])
        return self._buckets_of_known[pc.index_in(found, self._known).to_numpy()]

    def _people(self, rows: "pa.RecordBatch | pa.Table") -> "pa.Array | pa.ChunkedArray":
        """The key of each row, as text; nobody's is empty."""
        import pyarrow as pa
        import pyarrow.compute as pc

        keys = [rows.column(name).cast(pa.string()) for name in self._key]
        return pc.coalesce(*keys, "") if keys else pa.array([""] * rows.num_rows)

    def _read(self, pieces: list[tuple[int, int]]) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa

        for start, size in pieces:
            with disk_told(self._folder):
                self._disk.seek(start)
                written = self._disk.read(size)
            yield pa.ipc.read_record_batch(pa.py_buffer(written), self._schema)

    def _sorted(self, pieces: list[tuple[int, int]]) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa
        import pyarrow.compute as pc

        pool = pa.system_memory_pool()
        rows = pa.Table.from_batches(self._read(pieces)).combine_chunks(memory_pool=pool)
        people = pa.table([self._people(rows), rows[self._time_column]], names=["person", "moment"])
        order = pc.sort_indices(people, sort_keys=[("person", "ascending"), ("moment", "ascending")])
        yield from pc.take(rows, order, memory_pool=pool).to_batches()


def _runs(pieces: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Pieces that follow each other, of IN_MEMORY bytes together at most, or one alone."""
    run: list[tuple[int, int]] = []
    together = 0
    for start, size in pieces:
        if run and together + size > IN_MEMORY:
            yield run
            run, together = [], 0
        run.append((start, size))
        together += size
    yield run
