"""Which release this is."""

from importlib.metadata import version
from typing import Final

PACKAGE: Final = "supabase-data-lifecycle"


def release() -> str:
    """The installed release, such as 0.2.0."""
    return version(PACKAGE)
