"""Where cold months are: what a store can do, and the one that the settings name."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from lifecycle.cold.local_storage import LocalStorage
from lifecycle.cold.objects import ColdSettings, Listed, Removed, StoredObject, Unfinished
from lifecycle.errors import ColdStorageError

if TYPE_CHECKING:
    import duckdb

__all__ = ["ColdSettings", "ColdStorage", "Listed", "Removed", "StoredObject", "Unfinished", "open_storage"]

EXAMPLES = "file:///srv/cold or s3://bucket/prefix"


class ColdStorage(Protocol):
    """Objects under keys such as events/2026-01/part-0.parquet: relative, each written once and never changed.

    Every method raises ColdStorageError, which names store, object, cause and next step and never a credential, where
    the store is away, refuses, is full, or what it holds is not what was put. Several threads may use one of these.
    """

    url: str
    """The store's name for people: it holds no credential."""

    def put(self, key: str, source: Path) -> StoredObject:
        """Store a file under a key that nothing has yet, with its SHA-256, and look at what arrived.

        An object that is there already with the same content counts as put: that of a try whose answer was lost.
        Another content is refused and stays.
        """

    def fetch(self, stored: StoredObject, target: Path) -> None:
        """Write the object into `target`, in bounded memory; no target stays unless it is what `stored` says."""

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key now; an error, not False, where the store itself is not there."""

    def remove(self, key: str) -> Removed:
        """Remove the object with all its versions, delete markers and unfinished uploads, and prove it.

        Afterwards the store has said that there is no object, version or upload of this key. Where nothing is there,
        Removed(0, 0).
        """

    def list(self, prefix: str) -> Iterator[Listed]:
        """The objects whose keys begin with `prefix`; "" is all."""

    def list_uploads(self, prefix: str) -> Iterator[Unfinished]:
        """Unfinished uploads of keys that begin with `prefix`; some may be under way."""

    def abort(self, upload: Unfinished) -> None:
        """Take back an unfinished upload; well where it is gone already."""

    def prepare_duckdb(self, conn: "duckdb.DuckDBPyConnection") -> None:
        """Let this connection read what location() names; credentials stay in its memory, none go to a file."""

    def location(self, key: str) -> str:
        """The object as read_parquet of DuckDB takes it."""


def open_storage(settings: ColdSettings) -> ColdStorage:
    """The store of `settings.url`. Nothing is asked of it yet, but a folder is made when it is not there.

    Raises ColdStorageError when the URL, or what S3 needs beside it, cannot be right.
    """
    url = urlsplit(settings.url)
    if "@" in url.netloc or url.query or url.fragment:
        # Not quoted: what stands there may be a key.
        raise ColdStorageError(
            f"LIFECYCLE_COLD_URL holds more than a place. Write {EXAMPLES}; keys belong into AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY."
        )
    if url.scheme == "file" and url.netloc in ("", "localhost") and url.path.startswith("/") and url.path.strip("/"):
        return _open_folder(Path(unquote(url.path)))
    if url.scheme == "s3" and url.netloc:
        return _open_s3(url.netloc, url.path.strip("/"), settings)
    raise ColdStorageError(f"{settings.url!r} names no store of cold months. Set LIFECYCLE_COLD_URL to {EXAMPLES}.")


def _open_folder(folder: Path) -> ColdStorage:
    if any(sign in str(folder) for sign in "*?[]"):
        raise ColdStorageError(
            f"{folder} cannot hold cold months: to DuckDB a name with one of * ? [ ] means many files. Name another "
            "folder in LIFECYCLE_COLD_URL."
        )
    return LocalStorage(folder)


def _open_s3(bucket: str, prefix: str, settings: ColdSettings) -> ColdStorage:
    try:
        # Late: most processes read no cold month, and loading it takes a while.
        from lifecycle.cold.s3_storage import S3Storage
    except ModuleNotFoundError as missing:
        raise ColdStorageError(
            f"The package {missing.name} is not installed, without which no bucket can be used. Install "
            "supabase-data-lifecycle[cold]."
        ) from None
    return S3Storage(bucket, prefix, settings)
