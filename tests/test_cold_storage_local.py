"""A folder as the store: rights, full disks, what is left of a process that was killed."""

import errno
import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lifecycle.cold import local_storage
from lifecycle.cold.storage import ColdSettings, ColdStorage, Removed, open_storage
from lifecycle.errors import ColdStorageError
from tests.object_storage import file_of

pytest_plugins = ("tests.object_storage_fixtures",)
KEY = "events/2026-01/part.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cold" / "store"


@pytest.fixture
def local(folder: Path) -> ColdStorage:
    return open_storage(ColdSettings(folder.as_uri()))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_may_read(local: ColdStorage, folder: Path, source: Path) -> None:
    source.chmod(0o644)
    local.put(KEY, source)
    assert mode(folder / KEY) == 0o600
    made = [folder.parent, folder, folder / "events", folder / "events" / "2026-01"]
    assert {mode(path) for path in made} == {0o700}
    assert local.location(KEY) == str(folder / KEY)
    assert [path.name for path in (folder / KEY).parent.iterdir()] == ["part.parquet"]


def test_what_a_killed_process_left_is_no_object_and_goes_with_it(
    local: ColdStorage, folder: Path, source: Path
) -> None:
    left = [folder / f"events/2026-01/.{name}.{'0' * 16}.unfinished" for name in ("part.parquet", "other.parquet")]
    local.put(KEY, source)
    for path in left:
        path.write_bytes(b"half")
    assert [found.key for found in local.list("")] == [KEY]
    assert sorted(found.key for found in local.list_uploads("events/")) == ["events/2026-01/other.parquet", KEY]
    assert [found.key for found in local.list_uploads("events/2026-01/o")] == ["events/2026-01/other.parquet"]
    assert local.remove(KEY) == Removed(versions=1, uploads=1)
    (other,) = local.list_uploads("")
    local.abort(other)
    local.abort(other)
    assert not any(path.exists() for path in left)


def test_killed_before_it_has_its_name_it_is_not_there(
    local: ColdStorage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name comes after the bytes are on the disk."""
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    def link(partial: Path, path: Path) -> None:
        assert str(partial) in synced
        assert partial.read_bytes() == source.read_bytes()
        assert not path.exists()
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(ColdStorageError, match="Input/output error"):
        local.put(KEY, source)
    assert not local.exists(KEY)
    assert list(local.list_uploads("")) == []


@contextmanager
def little_room(folder: Path) -> Iterator[None]:
    """A disk of 1 MiB at `folder` where it can be made, else a limit of half of that for a file."""
    folder.mkdir(parents=True)
    mount = shutil.which("mount") or "mount"
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_keeps_nothing_half_written(folder: Path, tmp_path: Path) -> None:
    small, large = file_of(tmp_path / "small", 200_000), file_of(tmp_path / "large", 1_000_000)
    with little_room(folder):
        local = open_storage(ColdSettings(folder.as_uri()))
        stored = local.put("small", small)
        with pytest.raises(ColdStorageError, match=r"there is no room left for it.*Make room") as full:
            local.put(KEY, large)
        assert full.value.temporary
        assert not local.exists(KEY)
        assert list(local.list_uploads("")) == []
        local.fetch(stored, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == small.read_bytes()


def test_a_full_disk_of_the_reader_keeps_nothing_half_read(local: ColdStorage, tmp_path: Path) -> None:
    stored = local.put(KEY, file_of(tmp_path / "large", 3 * 2**20))
    target = tmp_path / "scratch" / "target"
    with little_room(target.parent):
        with pytest.raises(ColdStorageError, match="there is no room left for it"):
            local.fetch(stored, target)
        assert not target.exists()


@pytest.mark.parametrize("method", ["put", "exists", "remove"])
def test_a_folder_that_went_away_is_not_an_empty_one(
    local: ColdStorage, folder: Path, source: Path, method: str
) -> None:
    local.put(KEY, source)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(ColdStorageError, match=r"the folder of .* is gone"):
        local.put(KEY, source) if method == "put" else getattr(local, method)(KEY)
    for listing in (local.list, local.list_uploads):
        with pytest.raises(ColdStorageError, match=r"the folder of .* is gone"):
            list(listing(""))


def test_what_is_written_while_it_is_removed_is_not_taken_for_put(
    local: ColdStorage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def removed_before(partial: Path, path: Path) -> None:
        assert local.remove(KEY) == Removed(versions=0, uploads=1)
        link(partial, path)

    monkeypatch.setattr(local_storage.os, "link", removed_before)
    with pytest.raises(ColdStorageError):
        local.put(KEY, source)
    assert not local.exists(KEY)


def test_what_stays_though_it_was_removed_is_an_error(
    local: ColdStorage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put(KEY, source)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(ColdStorageError, match=r"was removed from .* and is there again"):
        local.remove(KEY)


def test_a_disk_that_may_not_be_written_is_told(
    local: ColdStorage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "")

    monkeypatch.setattr(local_storage.os, "link", refuse)
    with pytest.raises(ColdStorageError, match=r"part\.parquet could not be read or written: this account may not"):
        local.put(KEY, source)
