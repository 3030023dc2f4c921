"""The text of a message, packed and unpacked."""

import hashlib
import zlib
from dataclasses import dataclass
from typing import Final

from lifecycle.errors import VerificationError

GZIP: Final = 16  # added to the window's size it makes zlib write and read the gzip format
SMALLEST_WINDOW: Final = 9
LARGEST_WINDOW: Final = 15
# The levels differ by a hundredth in what comes out of so short a text, and hardly in time.
LEVEL: Final = 6


@dataclass(frozen=True)
class Packed:
    """A text as gzip, with the SHA-256 of what it was, both of its UTF-8."""

    content_gzip: bytes
    content_sha256: bytes


def pack(text: bytes) -> Packed:
    """Compress one text. A window no larger than the text takes a sixth of the time of zlib's own choice."""
    window = min(max(len(text).bit_length(), SMALLEST_WINDOW), LARGEST_WINDOW)
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP + window)
    return Packed(packer.compress(text) + packer.flush(), hashlib.sha256(text).digest())


def unpack(packed: Packed) -> bytes:
    """The text; VerificationError when it is no gzip or not what was archived."""
    try:
        text = zlib.decompress(packed.content_gzip, GZIP + LARGEST_WINDOW)
    except zlib.error as error:
        raise VerificationError(f"an archived text cannot be unpacked: {error}") from error
    if hashlib.sha256(text).digest() != packed.content_sha256:
        raise VerificationError("an archived text differs from its checksum")
    return text
