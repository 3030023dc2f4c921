"""Vouchers and redemptions past retention, deleted every night."""

from datetime import timedelta
from typing import Final

import dagster as dg

from assets.application import application_key
from assets.archive import POOL
from lifecycle.expiry.delete import delete_expired_vouchers as delete_all
from lifecycle.policy import VOUCHERS
from resources.postgres import ApplicationDatabase, retried_when_busy

GROUP: Final = "retention"
OWNERS: Final = ["team:data-platform"]
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))


@dg.asset(
    deps=[application_key("vouchers"), application_key("voucher_redemptions")],
    group_name=GROUP,
    description=(
        f"Vouchers and redemptions older than {VOUCHERS.keep_for}: deleted. A voucher is kept while it is valid, and "
        "for that long after its end, its making and its last redemption, whichever was last."
    ),
    kinds={"postgres"},
    owners=OWNERS,
    freshness_policy=FRESHNESS,
    pool=POOL,
    code_version="1",
)
def expired_vouchers(context: dg.AssetExecutionContext, database: ApplicationDatabase) -> dg.MaterializeResult[None]:
    with retried_when_busy(), database.connect() as conn:
        run = delete_all(conn, progress=lambda message, _: context.log.info(message))
    return dg.MaterializeResult(
        metadata={"redemptions_deleted": run.redemptions, "vouchers_deleted": run.vouchers, "batches": run.batches}
    )


VOUCHER_ASSETS: Final = [expired_vouchers]
