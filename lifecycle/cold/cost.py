"""What storage costs a month at declared prices, in the database and in files."""

from dataclasses import dataclass
from typing import Final

from lifecycle.cold.status import ColdStatus
from lifecycle.declarations.operations import StoragePrices
from lifecycle.language import Phrase

GIGABYTE: Final = 1e9
# Of whatever currency.
LEAST_TOLD: Final = 0.01


@dataclass(frozen=True)
class MonthlyCost:
    """Money a month for what is in the database, for the files, and for the rows in files had they stayed."""

    hot: float
    cold: float
    had_they_stayed: float
    currency: str

    @property
    def told(self) -> Phrase:
        """One line for people; what is little is not told as nothing."""
        if max(self.hot, self.cold, self.had_they_stayed) < LEAST_TOLD:
            return Phrase("less than {least} {currency}", least=LEAST_TOLD, currency=self.currency)
        return Phrase(
            "{hot:,.2f} {currency} in the database and {cold:,.2f} in files, whose rows would cost "
            "{had_they_stayed:,.2f} in the database",
            hot=self.hot,
            currency=self.currency,
            cold=self.cold,
            had_they_stayed=self.had_they_stayed,
        )


def monthly_cost(prices: StoragePrices | None, status: ColdStatus) -> MonthlyCost | None:
    """The cost of a table's storage; None where no prices are declared."""
    if prices is None:
        return None
    return MonthlyCost(
        hot=status.database_bytes / GIGABYTE * prices.database,
        cold=status.cold_bytes / GIGABYTE * prices.cold,
        had_they_stayed=status.bytes_before / GIGABYTE * prices.database,
        currency=prices.currency,
    )
