"""What tests of stores need beside the fixtures of object_storage_fixtures: names, files, a store that knows less."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ACCESS_KEY: Final = "AKIDEXAMPLE"
SECRET_KEY: Final = "secret/of+the'tests"  # noqa: S105 - of a server that lives for a test
PLAIN, VERSIONED = "plain", "versioned"


def file_of(path: Path, size: int) -> Path:
    """A file of random bytes."""
    path.write_bytes(os.urandom(size))
    return path


def without_headers(s3: Any, *parts: str) -> None:
    """From now on the store does not get headers whose names hold one of these, as if it did not know them."""

    def drop(params: dict[str, Any], **_: object) -> None:
        for name in list(params["headers"]):
            if any(part in name.lower() for part in parts):
                del params["headers"][name]

    s3.client.meta.events.register_last("before-call.s3", drop)


class _Answer:
    def __init__(self, status: int) -> None:
        self.status_code = status


def _error(status: int, code: str, message: str) -> tuple[_Answer, dict[str, Any]]:
    error = {"Code": code, "Message": message}
    return _Answer(status), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}}}


def answering(s3: Any, operation: str, status: int, code: str, message: str = "") -> None:
    """From now on the store answers this operation with this error; below 300, that it was done."""
    answer = _error(status, code, message) if status >= 300 else (_Answer(status), {})
    s3.client.meta.events.register_first(f"before-call.s3.{operation}", lambda **_: answer)


def refusing_header(s3: Any, header: str) -> Sequence[object]:
    """From now on the store answers requests with this header that it does not know it; returns them as they come."""
    refused: list[object] = []

    def refuse(params: dict[str, Any], **_: object) -> tuple[_Answer, dict[str, Any]] | None:
        if header not in (name.lower() for name in params["headers"]):
            return None
        refused.append(params)
        return _error(501, "NotImplemented", "A header implies functionality that is not implemented")

    s3.client.meta.events.register_first("before-call.s3", refuse)
    return refused
