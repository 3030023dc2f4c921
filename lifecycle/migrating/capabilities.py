"""All capabilities, in the order in which a migration takes them. One that is not declared creates nothing."""

from typing import Final

from lifecycle.declarations.application import Application
from lifecycle.ledger.capability import LEDGER
from lifecycle.migrating.capability import Capability
from lifecycle.review.capability import REVIEW
from lifecycle.segments.capability import SEGMENTS
from lifecycle.views.capability import VIEWS

# Where a migration remembers what it applied; made first.
STATE: Final = Capability("migrating", declared=lambda _: True)

CAPABILITIES: Final = (
    STATE,
    LEDGER,
    VIEWS,
    SEGMENTS,
    REVIEW,
)


def declared_capabilities(application: Application) -> tuple[Capability, ...]:
    """Those that this application asks for, in order."""
    return tuple(capability for capability in CAPABILITIES if capability.declared(application))
