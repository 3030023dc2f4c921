"""What storage costs a month at declared prices, in the database and in files."""

from dataclasses import dataclass
from typing import Final

from lifecycle.cold.status import ColdStatus
from lifecycle.declarations.operations import StoragePrices

GIGABYTE: Final = 1e9


@dataclass(frozen=True)
class MonthlyCost:
    """Money a month for what stays in the database, for the files, and for the same rows had they stayed."""

    hot: float
    cold: float
    had_they_stayed: float
    currency: str

    @property
    def told(self) -> str:
        """One line for people."""
        return (
            f"{self.hot:,.2f} {self.currency} in the database and {self.cold:,.2f} in files; the same rows would take "
            f"{self.had_they_stayed:,.2f} more in the database"
        )


def monthly_cost(prices: StoragePrices | None, status: ColdStatus) -> MonthlyCost | None:
    """The cost of a table's storage; None where no prices are declared."""
    if prices is None:
        return None
    return MonthlyCost(
        hot=status.hot_bytes / GIGABYTE * prices.database,
        cold=status.cold_bytes / GIGABYTE * prices.cold,
        had_they_stayed=status.bytes_before / GIGABYTE * prices.database,
        currency=prices.currency,
    )
