"""A person asks to be erased, by SQL; the sensor sees it, a run does it, a receipt proves it."""

from dataclasses import dataclass
from typing import Final

from lifecycle.database import connect
from lifecycle.erasures.proof import Receipt, broken_receipts, receipts
from lifecycle.errors import RefusedError
from orchestration.demo.runs import Runner
from sandbox.play import ask_for_erasure, asked_at
from sensors.deletion_requests import JOB, deletion_requests_sensor

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
        if not self.receipt.body["search"]["cold"]["rows"]:
            return f"request {self.request_id} found no row of the person in cold months"
        return None if self.chain_unbroken else "the chain of receipts is broken"


def erase_somebody(runner: Runner, url: str, person: str) -> Erased:
    """Insert a request of a person with rows in cold months, let the sensor look as the daemon would, run what it asks
    for, read the proof."""
    with connect(url) as conn:
        request = ask_for_erasure(conn, person)
        runs = runner.follow(deletion_requests_sensor(runner.application), JOB)
        try:
            receipt = receipts(conn, request)[-1]
        except RefusedError:
            return Erased(request, len(runs), None, None, False)
        seconds = (receipt.issued_at - asked_at(conn, request)).total_seconds()
        return Erased(request, len(runs), receipt, seconds, not broken_receipts(conn))
