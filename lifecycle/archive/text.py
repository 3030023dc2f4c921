"""A text as the archive keeps it: gzip where that is smaller, else as it is; its checksum beside it."""

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
    """`gzip` is None where it would be larger than the text. The SHA-256 is that of the text in UTF-8."""

    gzip: bytes | None
    sha256: bytes


def pack(text: bytes) -> Packed:
    """Compress one text. A window no larger than the text takes a sixth of the time of zlib's own choice."""
    window = min(max(len(text).bit_length(), SMALLEST_WINDOW), LARGEST_WINDOW)
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP + window)
    packed = packer.compress(text) + packer.flush()
    return Packed(packed if len(packed) < len(text) else None, hashlib.sha256(text).digest())


def unpack(text: str | None, gzip: bytes | None, sha256: bytes | None) -> str | None:
    """The text that a row of the archive keeps, in whichever of its columns; None for none.

    VerificationError when it is no gzip or not what was archived.
    """
    if sha256 is None and gzip is None:
        return text  # none, or archived before its column was declared to be compressed
    try:
        found = zlib.decompress(gzip, GZIP + LARGEST_WINDOW) if gzip is not None else (text or "").encode()
    except zlib.error as error:
        raise VerificationError(f"an archived text cannot be unpacked: {error}") from None
    if (text is None) == (gzip is None) or hashlib.sha256(found).digest() != sha256:
        raise VerificationError("an archived text differs from its checksum")
    return found.decode()
