"""What becomes of an edit where nothing can be edited: a webhook sent the message.

People hear of each cause once in a conversation: of one that was not told yet, by a short message of its own. How
often a known one fails, and that the job has recovered, which is a message anyway, is left out. So there are never more
messages than causes.
"""

import hashlib
from typing import Any, Final

from lifecycle.ledger.notifications import Claim

NOTHING_TOLD: Final = "-"


def _mark(cause: str) -> str:
    return hashlib.sha256(cause.encode()).hexdigest()[:8]


def told_mark(taken: Claim, before: str | None = None) -> str:
    """What stands for the causes that people have heard of: in the outbox, in the place of Slack's ts."""
    marks = {_mark(problem["cause"]) for problem in taken.content.get("problems") or []}
    known = set((before or "").split()) - {NOTHING_TOLD}
    return " ".join(sorted(marks | known)) or NOTHING_TOLD


def untold(taken: Claim) -> list[dict[str, Any]]:
    """Problems of the message that nobody has heard of; none once it is closed."""
    known = set((taken.message_ts or "").split())
    problems = [] if taken.closed_at else taken.content.get("problems") or []
    return [problem for problem in problems if _mark(problem["cause"]) not in known]
