"""Objects of a store, how they are named, and files that are read and written with their SHA-256."""

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from lifecycle.errors import ColdStorageError

CHUNK: Final = 2**20
LONGEST_KEY: Final = 900
LONGEST_NAME: Final = 200
# Stars, question marks and brackets name many files to DuckDB, a question mark and a sign of percent split or encode a
# URL, and a name that begins with a dot is a file of our own in a local store.
KEY: Final = re.compile(r"(?!\.)[^/\\*?\[\]{}#%\x00-\x1f\x7f]+(/(?!\.)[^/\\*?\[\]{}#%\x00-\x1f\x7f]+)*")
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class ColdSettings:
    """Where cold months are: `url` is file:///folder or s3://bucket/prefix, the others are what S3 needs.

    Without access_key the machine's own credentials are looked for as AWS's tools do (a role, a profile); with it,
    nothing is read but what stands here. `endpoint` is the URL of a store that is not AWS's.
    """

    url: str
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    region: str = ""
    endpoint: str = ""


@dataclass(frozen=True)
class StoredObject:
    """An object as it was put: its key within the store, its size in bytes and its SHA-256 in hexadecimal."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Removed:
    """What removing one key took: versions and delete markers, and uploads that were never finished."""

    versions: int
    uploads: int


@dataclass(frozen=True)
class Listed:
    """An object as the store lists it; `modified` is in UTC."""

    key: str
    bytes: int
    modified: datetime


@dataclass(frozen=True)
class Unfinished:
    """An upload that was never finished. It takes room, and holds rows, until it is aborted; `started` is in UTC."""

    key: str
    upload: str
    started: datetime


def checked_key(key: str) -> str:
    """The key, if every store and reader takes it as one object's name; ColdStorageError otherwise."""
    if not KEY.fullmatch(key) or len(key.encode()) > LONGEST_KEY or _longest_name(key) > LONGEST_NAME:
        raise ColdStorageError(
            f"{key!r} cannot name an object: a key is relative, its parts do not begin with a dot, are at most "
            f"{LONGEST_NAME} bytes long and hold none of \\ * ? [ ] {{ }} # %. Choose another."
        )
    return key


def _longest_name(key: str) -> int:
    return max(len(part.encode()) for part in key.split("/"))


def chunks_of(path: Path) -> Iterator[bytes]:
    """The file's bytes, some at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def taken(store: str, key: str) -> ColdStorageError:
    """The error about a key that another content has: nothing that is stored is ever overwritten."""
    return ColdStorageError(
        f"{key} in {store} holds another content already, which stays as it is. Put this one under another key, or, "
        "where nothing refers to the old one, remove that first."
    )


def write_file(chunks: Iterable[bytes], target: Path, at_most: int | None = None) -> tuple[int, str]:
    """Write a file (0600), down to the disk; returns its size in bytes and its SHA-256. Gives up after `at_most` bytes.

    Raises ColdStorageError where `target` cannot be written; what `chunks` raises passes through.
    """
    digest, size = hashlib.sha256(), 0
    with disk_told(target):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            if at_most is not None and size > at_most:
                break
            with disk_told(target):
                left = memoryview(chunk)
                while left:
                    left = left[file.write(left) :]
        with disk_told(target):
            os.fsync(file.fileno())
    return size, digest.hexdigest()


def fetch_into(target: Path, stored: StoredObject, store: str, chunks: Iterable[bytes]) -> None:
    """Write what comes from the store into `target`, which does not stay unless it is what was put.

    Raises ColdStorageError where size or SHA-256 differ or `target` cannot be written.
    """
    try:
        if write_file(chunks, target, at_most=stored.bytes) != (stored.bytes, stored.sha256):
            raise ColdStorageError(
                f"{stored.key} in {store} is not what was put there: its size or its SHA-256 differs from "
                f"{stored.bytes} bytes, {stored.sha256}. Nothing of it was used. Bring that object back from a copy of "
                "the store, then run this again."
            )
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise


@contextmanager
def disk_told(path: Path) -> Iterator[None]:
    """What goes wrong with a file or folder of this machine becomes a ColdStorageError that says what to do.

    Except that a file is there already: FileExistsError passes.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in FULL:
            cause, step = "there is no room left for it", "Make room, or raise the quota, then run this again."
        elif error.errno in CLOSED:
            cause, step = "this account may not", "Give it the right to, or name another folder."
        else:
            cause, step = os.strerror(error.errno or 0), "Correct that, then run this again."
        raise ColdStorageError(
            f"{path} could not be read or written: {cause}. Nothing half-written counts. {step}",
            temporary=error.errno in FULL,
        ) from None
