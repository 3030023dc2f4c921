"""What must hold for the erasure of people: nothing left, a whole map, whole receipts, no sign-in users.

That it happens in time is looked at by `no_overdue_deletions` (assets/review.py).
"""

from collections.abc import Callable, Sequence
from typing import Final

import dagster as dg

from assets.partition_checks import Finding, checks_of_one_look, listed
from lifecycle.erasures.status import ErasureHealth, erasure_health


def _reasons(counted: Sequence[tuple[str, int]]) -> str:
    return "; ".join(f"{count} requests: {reason}" for reason, count in counted)


def nothing_is_left(health: ErasureHealth) -> Finding:
    """Whoever was erased was also proved to be gone; the failure names the table and the column."""
    metadata = {"requests": sum(count for _, count in health.unproved)}
    if health.unproved:
        return Finding(False, _reasons(health.unproved), metadata)
    return Finding(True, "every erased request is proved, or still at work", metadata)


def personal_data_map_is_complete(health: ErasureHealth) -> Finding:
    """Every column that could hold personal data is on the map, and every step of the map names what exists."""
    metadata = {"unmapped": len(health.unmapped_columns), "missing": len(health.missing_columns)}
    if health.unmapped_columns:
        text = (
            f"not on the map: {listed(health.unmapped_columns)}; `lifecycle check` prints lines for personal_data.yaml"
        )
        return Finding(False, text, metadata)
    if health.missing_columns:
        text = f"on the map, not in the database: {listed(health.missing_columns)}; correct personal_data.yaml, migrate"
        return Finding(False, text, metadata)
    return Finding(True, "the map covers every column", metadata)


def receipts_unbroken(health: ErasureHealth) -> Finding:
    """No receipt was changed or taken away: each holds the hash of the one before it."""
    metadata = {"broken": len(health.broken_receipts)}
    if health.broken_receipts:
        broken = listed([str(receipt) for receipt in health.broken_receipts])
        return Finding(False, broken, metadata)
    return Finding(True, "the chain of receipts is whole", metadata)


def sign_in_users_gone(health: ErasureHealth) -> Finding:
    """The sign-in user of everybody who was erased is deleted, or there was none."""
    metadata = {"left": sum(count for _, count in health.sign_in_users_left)}
    if health.sign_in_users_left:
        return Finding(False, f"{_reasons(health.sign_in_users_left)}; delete them in Supabase's dashboard", metadata)
    return Finding(True, "no sign-in user is left", metadata)


CHECKS: Final[tuple[tuple[Callable[[ErasureHealth], Finding], dg.AssetCheckSeverity], ...]] = (
    (nothing_is_left, dg.AssetCheckSeverity.ERROR),
    (personal_data_map_is_complete, dg.AssetCheckSeverity.ERROR),
    (receipts_unbroken, dg.AssetCheckSeverity.ERROR),
    (sign_in_users_gone, dg.AssetCheckSeverity.WARN),
)


def erasure_checks(asset: dg.AssetKey) -> dg.AssetChecksDefinition:
    """All of them, from one look."""
    return checks_of_one_look("personal_data_erasures_checks", asset, CHECKS, erasure_health)
