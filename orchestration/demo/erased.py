"""A person asks to be erased, by SQL; the sensor sees it, a run does it, a receipt proves it."""

from dataclasses import dataclass
from typing import Final

from lifecycle.database import connect, value
from lifecycle.erasures.proof import Receipt, broken_receipts, receipts
from lifecycle.errors import RefusedError
from orchestration.demo.runs import Runner
from sensors.deletion_requests import JOB, deletion_requests_sensor

# Somebody with many conversations whom no vendor needs and who has not asked before.
ASK: Final = """
insert into public.data_deletion_requests (account_id)
select a.id from public.accounts a join public.chat_sessions s on s.account_id = a.id
 where a.status = 'active'
   and not exists (select from public.vendor_members m where m.account_id = a.id)
   and not exists (select from public.data_deletion_requests r where r.account_id = a.id)
 group by a.id order by count(*) desc, a.id limit 1
returning id
"""
LONGEST_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Erased:
    """One request: how many runs the sensor asked for, the receipt, and the seconds from the request to it.

    `seconds` is None without a receipt; `chain_unbroken` is about all receipts of the database.
    """

    request_id: str
    runs: int
    receipt: Receipt | None
    seconds: float | None
    chain_unbroken: bool

    @property
    def fault(self) -> str | None:
        """Why this is not what the demo should show; None when it is."""
        if not self.runs:
            return "the sensor asked for no run"
        if self.receipt is None or self.seconds is None:
            return f"request {self.request_id} got no receipt"
        if self.seconds > LONGEST_SECONDS:
            return f"request {self.request_id} took {self.seconds:.0f} s"
        return None if self.chain_unbroken else "the chain of receipts is broken"


def erase_somebody(runner: Runner, url: str) -> Erased:
    """Insert a request, let the sensor look as the daemon would, run what it asks for, read the proof."""
    with connect(url) as conn:
        request = str(value(conn, ASK))
        runs = runner.follow(deletion_requests_sensor(runner.application), JOB)
        try:
            receipt = receipts(conn, request)[-1]
        except RefusedError:
            return Erased(request, len(runs), None, None, False)
        asked = "select requested_at from public.data_deletion_requests where id = %s"
        seconds = (receipt.issued_at - value(conn, asked, (request,))).total_seconds()
        return Erased(request, len(runs), receipt, seconds, not broken_receipts(conn))
