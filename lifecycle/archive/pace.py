"""How fast rows are moved, and with how much patience."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final


@dataclass(frozen=True)
class Pace:
    """One batch is one transaction: at most `batch_size` rows, and no further one once they hold `batch_bytes` of text.

    A run moves at most `run_limit` rows and leaves the rest to the next one. A row that is past its time by more than
    `grace` is a fault. A group that was brought back stays out of the archive for `restored_for`.
    """

    grace: timedelta = timedelta(days=1)
    # A batch's rows are locked for some tenths of a second; half as many take a tenth more time in all.
    batch_size: int = 10_000
    batch_bytes: int = 32_000_000
    run_limit: int = 2_000_000
    restored_for: timedelta = timedelta(days=30)


PACE: Final = Pace()
