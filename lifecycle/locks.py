"""Patience with locks: how long a statement of ours may make others wait."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class LockPolicy:
    """How long a statement may make others wait behind it, and how often it tries again.

    Times in seconds. A waiting ACCESS EXCLUSIVE request stalls every writer that comes after it, so each
    try is short and the pauses between tries grow.
    """

    timeout: float = 0.05
    tries: int = 120
    first_pause: float = 0.1
    longest_pause: float = 2.0


LOCKS: Final = LockPolicy()
