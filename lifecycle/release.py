"""Which release this is, the one place that says so: pyproject.toml reads it here when the wheel is built.

Not asked of the installed package: a clone that was updated in place would tell the release it was installed with.
"""

from typing import Final

RELEASE: Final = "0.2.0"


def release() -> str:
    """The release of this code."""
    return RELEASE
