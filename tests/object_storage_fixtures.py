"""An S3 server and stores upon it, one server for a process: `pytest_plugins = ("tests.object_storage_fixtures",)`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lifecycle.cold import s3_upload
from lifecycle.cold.storage import ColdSettings, ColdStorage, open_storage
from sandbox.object_storage import REGION, ObjectStorage
from tests.object_storage import ACCESS_KEY, PLAIN, SECRET_KEY, VERSIONED, file_of


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStorage]:
    """A running S3 server with a plain and a versioned bucket."""
    with ObjectStorage(tmp_path_factory.mktemp("s3"), ACCESS_KEY, SECRET_KEY) as server:
        server.make_bucket(PLAIN)
        server.make_bucket(VERSIONED, versioned=True)
        yield server


@pytest.fixture
def s3_settings(object_storage: ObjectStorage) -> ColdSettings:
    """Settings of a prefix of its own in the plain bucket."""
    return ColdSettings(
        url=f"s3://{PLAIN}/{uuid4().hex}",
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        region=REGION,
        endpoint=object_storage.endpoint,
    )


@pytest.fixture(params=[PLAIN, VERSIONED])
def s3(s3_settings: ColdSettings, request: pytest.FixtureRequest) -> Any:
    """An empty store in a bucket; once without, once with versions."""
    return open_storage(replace(s3_settings, url=s3_settings.url.replace(PLAIN, request.param)))


@pytest.fixture(params=["local", PLAIN, VERSIONED])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> ColdStorage:
    """An empty store: a folder, a bucket, a bucket with versions."""
    if request.param == "local":
        return open_storage(ColdSettings(url=(tmp_path / "cold store").as_uri()))
    settings: ColdSettings = request.getfixturevalue("s3_settings")
    return open_storage(replace(settings, url=settings.url.replace(PLAIN, request.param)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file to put, of bytes that no other test has."""
    return file_of(tmp_path / "source", 100_000)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than 8 MiB goes into a bucket in parts."""
    monkeypatch.setattr(s3_upload, "WHOLE", s3_upload.PART)
