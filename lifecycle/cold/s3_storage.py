"""A bucket of any store that speaks S3 as the store of cold months: AWS, Supabase Storage, R2, MinIO, SeaweedFS."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from lifecycle.cold.duckdb_access import load_extension, make_secret
from lifecycle.cold.objects import (
    CHUNK,
    KEY,
    ColdSettings,
    Listed,
    Removed,
    StoredObject,
    Unfinished,
    checked_key,
    fetch_into,
    taken,
)
from lifecycle.cold.s3_client import client_of, code_of, is_absent, is_unknown, session_of, told
from lifecycle.cold.s3_upload import Source, read_source, upload
from lifecycle.errors import ColdStorageError

if TYPE_CHECKING:
    import duckdb

BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{3,63}")
PAGE: Final = 1000
# A connection may break in the middle of an object; botocore repeats what breaks before.
READS: Final = 3
# Answers to a put that was repeated because its first answer was lost, or that came second.
PERHAPS_THERE: Final = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchUpload")


class S3Storage:
    """Objects below `prefix` in a bucket.

    A put carries If-None-Match and SHA-256. Stores differ in what they make of these, so neither is relied on alone:
    the key is looked up before and after, and where the store tells no SHA-256 of what it holds (Supabase Storage), the
    object is read back. What remains: a store that ignores If-None-Match (Supabase Storage again), or looks before it
    finishes a large file instead of in that moment (SeaweedFS), may let one of two that put different contents under
    one key at once be overwritten after it was confirmed. So a key should have one writer. A store that cannot list
    versions (Supabase Storage, R2) counts as one without versions.
    """

    def __init__(self, bucket: str, prefix: str, settings: ColdSettings) -> None:
        if not BUCKET.fullmatch(bucket):
            raise ColdStorageError(
                f"{bucket!r} is no name of a bucket. Correct LIFECYCLE_COLD_URL: s3://bucket/prefix."
            )
        self._bucket = bucket
        self._prefix = f"{checked_key(prefix)}/" if prefix else ""
        self.url = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self._endpoint = settings.endpoint
        self._session = session_of(settings)
        self.client = client_of(self._session, settings)

    def put(self, key: str, source: Path) -> StoredObject:
        """Store the file under a key that nothing has yet; again is well where the content is the same.

        Raises ColdStorageError where the key has another content, or the store refuses, is full or away.
        """
        name, file = self._name(key), read_source(source)
        with told(self.url, key, "s3:PutObject, s3:GetObject and s3:ListBucket"):
            head = self._head(name)
            if head is None:
                with _passing(*PERHAPS_THERE):
                    upload(self.client, {"Bucket": self._bucket, "Key": name}, file)
                head = self._head(name)
            if head is None:
                raise ColdStorageError(
                    f"{key} is not in {self.url} though it was put: somebody else puts or removes it in this moment. "
                    "Run this again.",
                    temporary=True,
                )
            if not self._holds(name, head, file):
                raise taken(self.url, key)
        return StoredObject(key, file.size, file.sha256)

    def fetch(self, stored: StoredObject, target: Path) -> None:
        """Read the object into `target`; ColdStorageError, and no target, unless it is what was put."""
        name = self._name(stored.key)
        with told(self.url, stored.key, "s3:GetObject"):
            fetch_into(target, stored, self.url, self._chunks(name))

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key now; ColdStorageError where the bucket itself is not there."""
        name = self._name(key)
        with told(self.url, key, "s3:GetObject and s3:ListBucket"):
            if self._head(name) is not None:
                return True
            # To HEAD a bucket that is not there looks like a key that is not.
            self.client.list_objects_v2(Bucket=self._bucket, Prefix=name, MaxKeys=1)
            return False

    def remove(self, key: str) -> Removed:
        """Remove the object, its versions, delete markers and unfinished uploads; ColdStorageError unless all are gone.

        An object under a lock or legal hold of the store is not removable before that ends; the store says so here.
        """
        name = self._name(key)
        with told(self.url, key, "s3:DeleteObject, s3:DeleteObjectVersion, s3:ListBucket and s3:ListBucketVersions"):
            uploads = self._uploads_of(key)
            for unfinished in uploads:
                self.abort(unfinished)
            there, versions = self._head(name) is not None, self._versions(name)
            if there and not versions:
                self.client.delete_object(Bucket=self._bucket, Key=name)
            for version in versions:
                self.client.delete_object(Bucket=self._bucket, Key=name, VersionId=version)
            if self.exists(key) or self._versions(name) or self._uploads_of(key):
                raise ColdStorageError(
                    f"{key} was removed from {self.url} and is there still, or again: somebody else writes it, or the "
                    "store holds it back. Run this again; if it stays so, look at the bucket's object lock.",
                    temporary=True,
                )
        return Removed(max(len(versions), int(there)), len(uploads))

    def list(self, prefix: str) -> Iterator[Listed]:
        """The objects whose keys begin with `prefix`, in the store's order, but none that put() cannot have made."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._name_prefix(prefix), PaginationConfig={"PageSize": PAGE}
        )
        with told(self.url, "the list of objects", "s3:ListBucket"):
            for page in pages:
                for found in page.get("Contents", ()):
                    if KEY.fullmatch(key := found["Key"].removeprefix(self._prefix)):
                        yield Listed(key, found["Size"], found["LastModified"].astimezone(UTC))

    def list_uploads(self, prefix: str) -> Iterator[Unfinished]:
        """Unfinished uploads of keys that begin with `prefix`; none where the store cannot list them."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=self._name_prefix(prefix), PaginationConfig={"PageSize": PAGE}
        )
        with told(self.url, "the list of unfinished uploads", "s3:ListBucketMultipartUploads"), _known():
            for page in pages:
                for found in page.get("Uploads", ()):
                    key = found["Key"].removeprefix(self._prefix)
                    yield Unfinished(key, found["UploadId"], found["Initiated"].astimezone(UTC))

    def abort(self, upload: Unfinished) -> None:
        """Take back an unfinished upload; well where it is gone already."""
        name = self._name(upload.key)
        with told(self.url, upload.key, "s3:AbortMultipartUpload"), _passing("NoSuchUpload"):
            self.client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload.upload)

    def prepare_duckdb(self, conn: "duckdb.DuckDBPyConnection") -> None:
        """Load httpfs as it was installed, from no network, and give the connection a secret that ends with it.

        The credentials of a machine's role expire: call it again on a connection that lives longer than an hour.
        """
        load_extension(conn, "httpfs")
        with told(self.url, "reading with DuckDB", "s3:GetObject"):
            held = self._session.get_credentials()
            if held is None:
                raise NoCredentialsError
            credentials = held.get_frozen_credentials()
        endpoint = urlsplit(self._endpoint)
        options = {
            "key_id": credentials.access_key,
            "secret": credentials.secret_key,
            "session_token": credentials.token,
            "region": self.client.meta.region_name,
            "endpoint": f"{endpoint.netloc}{endpoint.path}".rstrip("/"),
            "use_ssl": endpoint.scheme != "http",
            "url_style": "path",
            "scope": f"s3://{self._bucket}/{self._prefix}",
        }
        make_secret(conn, {name: value for name, value in options.items() if value not in ("", None)})

    def location(self, key: str) -> str:
        """s3://bucket/prefix/key, as read_parquet takes it."""
        return f"s3://{self._bucket}/{self._name(key)}"

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _name_prefix(self, prefix: str) -> str:
        return self._name(f"{prefix}any").removesuffix("any")

    def _head(self, name: str) -> Mapping[str, Any] | None:
        try:
            head: Mapping[str, Any] = self.client.head_object(Bucket=self._bucket, Key=name, ChecksumMode="ENABLED")
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        return head

    def _chunks(self, name: str) -> Iterator[bytes]:
        """The object's bytes; after a connection that broke off, those that are missing, of the same object."""
        at = 0
        rest: dict[str, str] = {}
        for remaining in reversed(range(READS)):
            answer = self.client.get_object(Bucket=self._bucket, Key=name, **rest)
            try:
                for chunk in answer["Body"].iter_chunks(CHUNK):
                    at += len(chunk)
                    yield chunk
                return
            except BotoCoreError:
                if not remaining:
                    raise
            if at:
                rest = {"Range": f"bytes={at}-", "IfMatch": answer["ETag"]}

    def _holds(self, name: str, head: Mapping[str, Any], file: Source) -> bool:
        """Whether the object is the file: by the store's SHA-256, or by reading it where the store tells none."""
        checksum = head.get("ChecksumSHA256", "")
        if head["ContentLength"] != file.size:
            return False
        if checksum in file.checksums or (checksum and "-" not in checksum):
            return checksum in file.checksums
        digest = hashlib.sha256()
        for chunk in self._chunks(name):
            digest.update(chunk)
        return digest.hexdigest() == file.sha256

    def _uploads_of(self, key: str) -> Sequence[Unfinished]:
        return [unfinished for unfinished in self.list_uploads(key) if unfinished.key == key]

    def _versions(self, name: str) -> Sequence[str]:
        """The ids of the key's versions and delete markers; none where the store cannot list them."""
        found: tuple[str, ...] = ()
        with _known():
            for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=name):
                listed = (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
                found += tuple(version.get("VersionId", "null") for version in listed if version["Key"] == name)
        return found


@contextmanager
def _passing(*codes: str) -> Iterator[None]:
    """These answers of the store are no errors here."""
    try:
        yield
    except ClientError as error:
        if code_of(error) not in codes:
            raise


@contextmanager
def _known() -> Iterator[None]:
    """Nothing where the store does not know the request."""
    try:
        yield
    except ClientError as error:
        if not is_unknown(error):
            raise
