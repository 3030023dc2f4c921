"""How patient an erasure is. What is true of the application (deadline, grace, late rows) is in personal_data.yaml."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class ErasurePolicy:
    """Times are PostgreSQL intervals.

    A worker that was not heard of for `lease` has lost its jobs. `batch_size` persons share one search for what is
    left, `chunk_size` persons one transaction. A job that failed is tried again after `first_pause`, doubled up to
    `longest_pause`; its request says `failed` once it was tried `tries_until_failed` times. A request that would touch
    more than `reach` rows beyond the person's own is held until somebody confirms it.
    """

    lease: str = "15 minutes"
    batch_size: int = 1000
    chunk_size: int = 100
    reach: int = 10_000
    first_pause: str = "1 minute"
    longest_pause: str = "6 hours"
    tries_until_failed: int = 5
    lock_timeout_ms: int = 5000


ERASURE: Final = ErasurePolicy()
