"""A file on its way into a bucket: whole, or in parts where it is large, with the SHA-256 of each."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from lifecycle.cold.s3_client import code_of

# Up to this size a file goes in one request. A larger one goes in parts; to finish that only where nothing is there is
# two steps to some stores (SeaweedFS), between which another may finish.
WHOLE: Final = 32 * 2**20
# S3 takes parts of 5 MiB at least and 10,000 of them at most.
PART: Final = 8 * 2**20
MOST_PARTS: Final = 10_000


@dataclass(frozen=True)
class Source:
    """A file to put: its size, its SHA-256 in hexadecimal, and the digests of its parts of `part_bytes` each."""

    path: Path
    size: int
    sha256: str
    part_bytes: int
    parts: tuple[bytes, ...]

    @property
    def checksums(self) -> tuple[str, str]:
        """What S3 may call the object's SHA-256: that of the whole, or that of its parts' digests."""
        composite = hashlib.sha256(b"".join(self.parts)).digest()
        return _base64(bytes.fromhex(self.sha256)), f"{_base64(composite)}-{len(self.parts)}"


def read_source(path: Path) -> Source:
    """Read the file once, a part at a time."""
    part_bytes = max(PART, -(-path.stat().st_size // MOST_PARTS))
    whole, size, parts = hashlib.sha256(), 0, []
    with path.open("rb") as file:
        while part := file.read(part_bytes):
            whole.update(part)
            parts.append(hashlib.sha256(part).digest())
            size += len(part)
    return Source(path, size, whole.hexdigest(), part_bytes, tuple(parts))


def upload(client: Any, place: Mapping[str, str], source: Source) -> None:
    """Put the file at a place (Bucket, Key) that has nothing yet, or raise what botocore raises.

    A store that says it does not know the condition or the checksums gets the file without; look at what it holds.
    """
    try:
        _send(client, place, source, {"IfNoneMatch": "*"}, checksums=True)
    except ClientError as error:
        if code_of(error) != "NotImplemented":
            raise
        _send(client, place, source, {}, checksums=False)


def _send(
    client: Any, place: Mapping[str, str], source: Source, condition: Mapping[str, str], *, checksums: bool
) -> None:
    if source.size <= WHOLE:
        checksum = {"ChecksumSHA256": source.checksums[0]} if checksums else {}
        with source.path.open("rb") as body:
            client.put_object(**place, Body=body, **condition, **checksum)
        return
    algorithm = {"ChecksumAlgorithm": "SHA256"} if checksums else {}
    begun = {**place, "UploadId": client.create_multipart_upload(**place, **algorithm)["UploadId"]}
    try:
        parts = list(_send_parts(client, begun, source, checksums=checksums))
        client.complete_multipart_upload(**begun, **condition, MultipartUpload={"Parts": parts})
    except BotoCoreError:
        raise  # the store is away, so it could not be taken back either: a list of uploads finds it later
    except BaseException:
        with suppress(ClientError, BotoCoreError):
            client.abort_multipart_upload(**begun)
        raise


def _send_parts(
    client: Any, begun: Mapping[str, str], source: Source, *, checksums: bool
) -> Iterator[Mapping[str, object]]:
    with source.path.open("rb") as body:
        for number, digest in enumerate(source.parts, 1):
            checksum = {"ChecksumSHA256": _base64(digest)} if checksums else {}
            sent = client.upload_part(**begun, PartNumber=number, Body=body.read(source.part_bytes), **checksum)
            # A store that does not answer a checksum does not know it, and may refuse to hear of it again.
            known = checksum if "ChecksumSHA256" in sent else {}
            yield {"PartNumber": number, "ETag": sent["ETag"], **known}


def _base64(digest: bytes) -> str:
    return b64encode(digest).decode()
