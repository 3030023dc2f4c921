"""A folder of this machine as the store of cold months."""

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lifecycle.cold.objects import (
    Listed,
    Removed,
    StoredObject,
    Unfinished,
    checked_key,
    chunks_of,
    disk_told,
    fetch_into,
    sha256_of,
    taken,
    write_file,
)
from lifecycle.errors import ColdStorageError

if TYPE_CHECKING:
    import duckdb

UNFINISHED: Final = re.compile(r"\.(?P<name>.+)\.(?P<token>[0-9a-f]{16})\.unfinished")


class LocalStorage:
    """Objects are files (0600) below `folder` (0700), which is made when it is not there.

    A file gets its name once all of it is on the disk, so a half-written one is never taken for an object. For one
    machine, as in the demo; not for a disk that may be unmounted, since an empty mount point is an empty store. What is
    removed is unlinked, not overwritten: encrypt the disk, and mind its snapshots.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = folder.as_uri()
        with disk_told(folder):
            _make_folders(folder)

    def put(self, key: str, source: Path) -> StoredObject:
        """Store the file under a key that nothing has yet; again is well where the content is the same.

        Raises ColdStorageError where the key has another content, the disk is full or the folder is gone.
        """
        path = self._path(key)
        if self.exists(key):
            return self._same(key, path, source)
        with disk_told(path.parent):
            _make_folders(path.parent)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.unfinished")
        try:
            size, sha256 = write_file(chunks_of(source), partial)
            with disk_told(path):
                os.link(partial, path)
                _sync_folder(path.parent)
        except FileExistsError:
            return self._same(key, path, source)
        finally:
            partial.unlink(missing_ok=True)
        return StoredObject(key, size, sha256)

    def fetch(self, stored: StoredObject, target: Path) -> None:
        """Copy the object into `target`; ColdStorageError, and no target, unless it is what was put."""
        if not self.exists(stored.key):
            raise ColdStorageError(
                f"{stored.key} is gone from {self.url}. Nothing was read. Bring that file back from a copy of the "
                "folder, then run this again."
            )
        fetch_into(target, stored, self.url, _read(self._path(stored.key)))

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        path = self._path(key)
        with disk_told(path):
            return path.is_file()

    def remove(self, key: str) -> Removed:
        """Remove the object and what was never finished of it; ColdStorageError unless both are gone afterwards."""
        path = self._path(key)
        uploads = [upload for upload in self._unfinished_in(path.parent) if upload.key == key]
        for upload in uploads:
            self.abort(upload)
        versions = 0
        with disk_told(path):
            with suppress(FileNotFoundError):
                path.unlink()
                versions = 1
            if path.parent.exists():
                _sync_folder(path.parent)
        if self.exists(key) or any(upload.key == key for upload in self._unfinished_in(path.parent)):
            raise ColdStorageError(
                f"{key} was removed from {self.url} and is there again: somebody else writes it. Stop that, then run "
                "this again.",
                temporary=True,
            )
        return Removed(versions, len(uploads))

    def list(self, prefix: str) -> Iterator[Listed]:
        """The objects whose keys begin with `prefix`, in order; "" is all."""
        for path in self._files(prefix):
            key = path.relative_to(self.folder).as_posix()
            if key.startswith(prefix) and not UNFINISHED.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    found = path.stat()
                    yield Listed(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def list_uploads(self, prefix: str) -> Iterator[Unfinished]:
        """What was never finished of objects whose keys begin with `prefix`."""
        for folder in sorted({path.parent for path in self._files(prefix)}):
            yield from (upload for upload in self._unfinished_in(folder) if upload.key.startswith(prefix))

    def abort(self, upload: Unfinished) -> None:
        """Remove what was written of it; whoever still writes it gets an error. Well where it is gone already."""
        path = self._path(upload.key).with_name(upload.upload)
        with disk_told(path):
            path.unlink(missing_ok=True)

    def prepare_duckdb(self, conn: "duckdb.DuckDBPyConnection") -> None:
        """Nothing: DuckDB reads files."""

    def location(self, key: str) -> str:
        """The file's path, as read_parquet takes it."""
        return str(self.folder / checked_key(key))

    def _path(self, key: str) -> Path:
        path = self.folder / checked_key(key)
        if not self.folder.is_dir():
            raise ColdStorageError(
                f"the folder of {self.url} is gone, so nothing can be said about {key}. Bring it back, then run this "
                "again."
            )
        return path

    def _same(self, key: str, path: Path, source: Path) -> StoredObject:
        stored = StoredObject(key, source.stat().st_size, sha256_of(source))
        with disk_told(path):
            if path.stat().st_size != stored.bytes or sha256_of(path) != stored.sha256:
                raise taken(self.url, key)
        return stored

    def _files(self, prefix: str) -> Sequence[Path]:
        """All files of the folder in which a key of this prefix is, and below."""
        folder = self._path(f"{prefix}any").parent
        with disk_told(folder):
            return sorted(path for path in folder.rglob("*") if path.is_file())

    def _unfinished_in(self, folder: Path) -> Iterator[Unfinished]:
        for path in sorted(folder.glob(".*.unfinished")):
            if match := UNFINISHED.fullmatch(path.name):
                key = path.with_name(match["name"]).relative_to(self.folder).as_posix()
                with suppress(FileNotFoundError):
                    yield Unfinished(key, path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC))


def _read(path: Path) -> Iterator[bytes]:
    with disk_told(path):
        yield from chunks_of(path)


def _make_folders(folder: Path) -> None:
    """The folder and those above it that are not there, each closed to others."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Afterwards a crash of the machine does not take back what happened to names in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
