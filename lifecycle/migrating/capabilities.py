"""All capabilities, in the order in which a migration takes them. One that is not declared creates nothing."""

from typing import Final

from lifecycle.declarations.application import Application
from lifecycle.ledger.capability import LEDGER
from lifecycle.migrating.capability import Capability
from lifecycle.segments.capability import SEGMENTS
from lifecycle.views.capability import VIEWS
from lifecycle.partitions.capability import PARTITIONS

# Where a migration remembers what it applied; made first.
STATE: Final = Capability("migrating", declared=lambda _: True)

# What all others stand on, whatever is declared.
BASE: Final = (STATE, LEDGER)

CAPABILITIES: Final = (
    STATE,
    LEDGER,
    VIEWS,
    SEGMENTS,
    *BASE,
    PARTITIONS,
)


def declared_capabilities(application: Application) -> tuple[Capability, ...]:
    """Those that this application asks for, in order."""
    return tuple(capability for capability in CAPABILITIES if capability.declared(application))
