"""What every store of cold months does alike: a folder, a bucket, a bucket with versions."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from lifecycle.cold.storage import ColdSettings, ColdStorage, Removed, StoredObject, open_storage
from lifecycle.errors import ColdStorageError
from tests.object_storage import file_of

pytest_plugins = ("tests.object_storage_fixtures",)
KEY = "public.events/month=2026-01/part 0.parquet"


def keys(storage: ColdStorage, prefix: str = "") -> list[str]:
    return [found.key for found in storage.list(prefix)]


def test_what_is_put_is_fetched_and_removed(storage: ColdStorage, source: Path, tmp_path: Path) -> None:
    assert not storage.exists(KEY)
    before = datetime.now(UTC) - timedelta(seconds=2)
    stored = storage.put(KEY, source)
    assert stored == StoredObject(KEY, 100_000, hashlib.sha256(source.read_bytes()).hexdigest())
    assert storage.exists(KEY)
    assert not storage.exists(KEY.removesuffix("/part 0.parquet"))
    (listed,) = storage.list("public.events/")
    assert (listed.key, listed.bytes) == (KEY, 100_000)
    assert before <= listed.modified <= datetime.now(UTC) + timedelta(seconds=2)

    target = tmp_path / "target"
    storage.fetch(stored, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600

    assert storage.remove(KEY) == Removed(versions=1, uploads=0)
    assert not storage.exists(KEY)
    assert keys(storage) == []
    assert storage.remove(KEY) == Removed(versions=0, uploads=0)
    with pytest.raises(ColdStorageError, match=r"part 0\.parquet is gone from .*copy of the (store|folder)"):
        storage.fetch(stored, target)


def test_a_removed_key_takes_another_content(storage: ColdStorage, source: Path, tmp_path: Path) -> None:
    storage.put(KEY, source)
    storage.remove(KEY)
    stored = storage.put(KEY, file_of(tmp_path / "other", 10))
    assert stored.bytes == 10


def test_an_empty_file(storage: ColdStorage, tmp_path: Path) -> None:
    stored = storage.put(KEY, file_of(tmp_path / "empty", 0))
    storage.fetch(stored, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b""


@pytest.mark.usefixtures("small_parts")
def test_a_large_file_goes_in_parts(storage: ColdStorage, tmp_path: Path) -> None:
    large = file_of(tmp_path / "large", 17 * 2**20 + 1)
    stored = storage.put(KEY, large)
    assert storage.put(KEY, large) == stored
    storage.fetch(stored, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == large.read_bytes()
    assert list(storage.list_uploads("")) == []


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [100_000, 9 * 2**20])
def test_a_second_put_is_taken_with_the_same_content_only(
    storage: ColdStorage, source: Path, tmp_path: Path, size: int
) -> None:
    stored = storage.put(KEY, file_of(source, size))
    assert storage.put(KEY, source) == stored
    for other_size in (size, 7):
        other = file_of(tmp_path / "other", other_size)
        with pytest.raises(ColdStorageError, match=r"part 0\.parquet in .* holds another content already") as refused:
            storage.put(KEY, other)
        assert not refused.value.temporary
    storage.fetch(stored, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert list(storage.list_uploads("")) == []
    assert storage.remove(KEY) == Removed(versions=1, uploads=0)


def test_of_different_contents_at_once_one_wins(storage: ColdStorage, tmp_path: Path) -> None:
    files = [file_of(tmp_path / f"source{number}", 2**20) for number in range(3)]
    together = Barrier(len(files))

    def put(file: Path) -> StoredObject | None:
        together.wait()
        try:
            return storage.put(KEY, file)
        except ColdStorageError:
            return None

    with ThreadPoolExecutor(len(files)) as pool:
        put_objects = list(pool.map(put, files))
    (stored,) = [stored for stored in put_objects if stored]
    storage.fetch(stored, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == files[put_objects.index(stored)].read_bytes()
    assert list(storage.list_uploads("")) == []


def test_of_one_content_at_once_all_win(storage: ColdStorage, source: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        put_objects = set(pool.map(lambda _: storage.put(KEY, source), range(4)))
    assert len(put_objects) == 1


@pytest.mark.parametrize("change", ["another byte", "a byte less", "a byte more"])
def test_an_object_that_is_not_what_was_put_is_not_fetched(
    storage: ColdStorage, source: Path, tmp_path: Path, change: str
) -> None:
    """The manifest's StoredObject is what it is held against, whatever the store says of itself."""
    content = source.read_bytes()
    stored = StoredObject(KEY, len(content), hashlib.sha256(content).hexdigest())
    source.write_bytes(
        {
            "another byte": content[:50_000] + bytes([content[50_000] ^ 1]) + content[50_001:],
            "a byte less": content[:-1],
            "a byte more": content + b"x",
        }[change]
    )
    storage.put(KEY, source)
    target = tmp_path / "target"
    with pytest.raises(ColdStorageError, match="is not what was put there") as noticed:
        storage.fetch(stored, target)
    assert not target.exists()
    assert not noticed.value.temporary


def test_a_list_is_of_keys_that_begin_with_the_prefix(storage: ColdStorage, source: Path) -> None:
    put = [f"{table}/2026-0{month}/part.parquet" for table in ("events", "events_archive") for month in (1, 2)]
    for key in put:
        storage.put(key, source)
    assert sorted(keys(storage)) == put
    assert sorted(keys(storage, "events")) == put
    assert sorted(keys(storage, "events/")) == put[:2]
    assert keys(storage, "events/2026-02/") == put[1:2]
    assert sorted(keys(storage, "events_")) == put[2:]
    assert keys(storage, "events/2026-01/other") == []
    assert keys(storage, "other/") == []


def test_a_key_that_is_no_plain_name_is_refused(storage: ColdStorage, source: Path) -> None:
    keys = (
        "",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/../b",
        "a/./b",
        "a/.b",
        "a*",
        "a?b",
        "a[1]",
        "a\\b",
        "a\nb",
        "a#b",
        "x" * 250,
        "x/" * 500 + "x",
    )
    for key in keys:
        with pytest.raises(ColdStorageError, match="cannot name an object"):
            storage.put(key, source)
        for method in (storage.exists, storage.remove, storage.location):
            with pytest.raises(ColdStorageError, match="cannot name an object"):
                method(key)


def test_a_target_that_cannot_be_written_is_told(storage: ColdStorage, source: Path, tmp_path: Path) -> None:
    stored = storage.put(KEY, source)
    with pytest.raises(ColdStorageError, match=r"nowhere/target could not be read or written: No such file"):
        storage.fetch(stored, tmp_path / "nowhere" / "target")


def test_loading_it_loads_no_client() -> None:
    code = "import sys, lifecycle.cold.storage; sys.exit(bool({'botocore', 'boto3', 'duckdb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "settings",
    [
        ColdSettings("/srv/cold"),
        ColdSettings("file://server/cold"),
        ColdSettings("file:cold"),
        ColdSettings("file:///"),
        ColdSettings("gs://bucket"),
        ColdSettings("s3:///prefix"),
        ColdSettings("s3://b"),
        ColdSettings("s3://bucket/../x"),
        ColdSettings("file:///srv/co*ld"),
        ColdSettings("s3://AKID:hush@bucket/prefix"),
        ColdSettings("s3://bucket/prefix?secret=hush"),
        ColdSettings("s3://bucket", access_key="AKID"),
        ColdSettings("s3://bucket", secret_key="hush"),  # noqa: S106
        ColdSettings("s3://bucket", "AKID", "hush", endpoint="storage.example.com"),
        ColdSettings("s3://bucket", "AKID", "hush", endpoint="https://AKID:hush@storage.example.com"),
    ],
    ids=lambda settings: settings.url + settings.endpoint,
)
def test_settings_that_cannot_be_right_are_refused_and_no_key_is_told(settings: ColdSettings) -> None:
    with pytest.raises(ColdStorageError, match=r"LIFECYCLE_COLD_URL|AWS_|cannot name") as refused:
        open_storage(settings)
    assert "hush" not in str(refused.value)
    assert "AKID" not in str(refused.value)


def test_settings_are_shown_without_their_keys() -> None:
    shown = repr(ColdSettings("s3://bucket", "AKID", "hush", "token", "eu", "http://host"))
    assert shown == "ColdSettings(url='s3://bucket', region='eu', endpoint='http://host')"
