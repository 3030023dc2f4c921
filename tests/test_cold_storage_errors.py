"""What goes wrong with a store is told in one sentence of ours: store, object, cause, next step, and no credential."""

import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifecycle.cold import s3_client
from lifecycle.cold.storage import ColdSettings, StoredObject, open_storage
from lifecycle.errors import ColdStorageError
from tests.object_storage import SECRET_KEY, answering

pytest_plugins = ("tests.object_storage_fixtures",)
KEY = "events/2026-01/part.parquet"
METHODS = ("put", "fetch", "exists", "remove", "list", "list_uploads")


def call(storage: Any, method: str, source: Path) -> object:
    match method:
        case "put":
            return storage.put(KEY, source)
        case "fetch":
            return storage.fetch(StoredObject(KEY, 1, "0" * 64), source.with_name("target"))
        case "list" | "list_uploads":
            return list(getattr(storage, method)(""))
        case _:
            return getattr(storage, method)(KEY)


@pytest.mark.parametrize("method", METHODS)
def test_wrong_credentials(s3_settings: ColdSettings, source: Path, method: str) -> None:
    storage = open_storage(replace(s3_settings, secret_key="mistyped"))  # noqa: S106
    with pytest.raises(ColdStorageError, match=r"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as refused:
        call(storage, method, source)
    assert storage.url in str(refused.value)
    assert "mistyped" not in str(refused.value)
    assert not refused.value.temporary


@pytest.mark.parametrize("method", METHODS)
def test_a_bucket_that_is_not_there(s3_settings: ColdSettings, source: Path, method: str) -> None:
    """Not the same as an object that is not there: nothing can be said about that."""
    storage = open_storage(replace(s3_settings, url="s3://nowhere/prefix"))
    with pytest.raises(ColdStorageError, match="the bucket of s3://nowhere/prefix is not there"):
        call(storage, method, source)


def test_a_bucket_that_is_not_there_at_a_store_that_lists_little(s3_settings: ColdSettings) -> None:
    """To HEAD every object of it is gone, which would be a proof of nothing."""
    storage = open_storage(replace(s3_settings, url="s3://nowhere/prefix"))
    answering(storage, "ListObjectVersions", 501, "NotImplemented")
    answering(storage, "ListMultipartUploads", 501, "NotImplemented")
    with pytest.raises(ColdStorageError, match="the bucket of s3://nowhere/prefix is not there"):
        storage.remove(KEY)


@pytest.mark.parametrize("method", METHODS)
def test_a_server_that_is_away(source: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "TRIES", 2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        storage = open_storage(ColdSettings("s3://bucket/prefix", "AKID", "hush", endpoint=endpoint))
        with pytest.raises(ColdStorageError, match=r"in s3://bucket/prefix: the store gives no answer") as away:
            call(storage, method, source)
    assert away.value.temporary


@pytest.mark.parametrize("method", ["put", "fetch"])
def test_a_server_that_takes_requests_and_never_answers(
    source: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tries; with the time that is allowed for each, the whole takes about a minute."""
    assert s3_client.TRIES * max(s3_client.READ_SECONDS, s3_client.CONNECT_SECONDS) <= 60
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        storage = open_storage(ColdSettings("s3://bucket/prefix", "AKID", "hush", endpoint=endpoint))
        assert storage.client.meta.config.connect_timeout == s3_client.CONNECT_SECONDS  # type: ignore[attr-defined]
        begun = time.monotonic()
        with pytest.raises(ColdStorageError, match="the store gives no answer") as away:
            call(storage, method, source)
    assert time.monotonic() - begun < 8
    assert away.value.temporary


@pytest.mark.parametrize(
    ("status", "code", "words", "temporary"),
    [
        (403, "AccessDenied", "access is refused.*or allow them s3:PutObject", False),
        (403, "InvalidAccessKeyId", "refuses the credentials", False),
        (403, "RequestTimeTooSkewed", "clock", False),
        (400, "ExpiredToken", "have expired", False),
        (400, "AuthorizationHeaderMalformed", "another region", False),
        (301, "PermanentRedirect", "another region", False),
        (413, "EntityTooLarge", "larger than the store takes", False),
        (507, "InsufficientStorage", "the store is full", True),
        (507, "XMinioStorageFull", "the store is full", True),
        (403, "QuotaExceeded", "the store is full", True),
        (400, "BadDigest", "what arrived is not what was sent", True),
        (404, "NoSuchBucket", "the bucket of .* is not there", False),
        (409, "OperationAborted", "the store answers 409 OperationAborted", True),
        (429, "TooManyRequests", "the store answers 429", True),
        (500, "InternalError", "the store answers 500 InternalError", True),
        (503, "SlowDown", "the store answers 503 SlowDown", True),
        (502, "<html>hush</html>", "the store answers 502", True),
        (400, "Whatever", "the store answers 400 Whatever", False),
    ],
)
def test_what_a_store_answers_is_told_in_our_words(
    s3_settings: ColdSettings, source: Path, status: int, code: str, words: str, temporary: bool
) -> None:
    storage = open_storage(s3_settings)
    answering(storage, "PutObject", status, code, f"<Secret>{SECRET_KEY}</Secret> hush")
    with pytest.raises(ColdStorageError, match=words) as refused:
        storage.put(KEY, source)
    said = str(refused.value)
    assert KEY in said
    assert storage.url in said
    assert "hush" not in said
    assert SECRET_KEY not in said
    assert refused.value.temporary is temporary
    # Nor does a traceback show the store's own words.
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_no_credentials_at_all(s3_settings: ColdSettings, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(source.parent))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    storage = open_storage(replace(s3_settings, access_key="", secret_key=""))
    with pytest.raises(ColdStorageError, match="there are no credentials"):
        storage.put(KEY, source)
    import duckdb

    with duckdb.connect() as conn, pytest.raises(ColdStorageError, match="there are no credentials"):
        storage.prepare_duckdb(conn)
