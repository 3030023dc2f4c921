"""What a check of an asset finds, and checks that are evaluated together from one look at the database."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import dagster as dg

from lifecycle.database import Connection
from resources.postgres import ApplicationDatabase, retried_when_busy

LISTED: Final = 20
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Finding:
    """Whether a check passed, why, and the counts to keep with it."""

    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def result(
        self, asset: dg.AssetKey, check: str, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    ) -> dg.AssetCheckResult:
        """As the outcome of an asset's check."""
        return dg.AssetCheckResult(
            asset_key=asset,
            check_name=check,
            passed=self.passed,
            severity=severity,
            description=self.description,
            metadata=self.metadata,
        )


def listed(names: Sequence[str]) -> str:
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def checks_of_one_look(
    name: str,
    asset: dg.AssetKey,
    checks: Sequence[tuple[Callable[[Seen], Finding], dg.AssetCheckSeverity]],
    look: Callable[[Connection], Seen],
) -> dg.AssetChecksDefinition:
    """The checks of an asset, evaluated together from one look at the database; each is described by its docstring."""

    @dg.multi_asset_check(
        name=name,
        specs=[dg.AssetCheckSpec(check.__name__, asset=asset, description=check.__doc__) for check, _ in checks],
    )
    def evaluate(database: ApplicationDatabase) -> Iterable[dg.AssetCheckResult]:
        with retried_when_busy(), database.transaction() as conn:
            seen = look(conn)
        for check, severity in checks:
            yield check(seen).result(asset, check.__name__, severity)

    return evaluate
