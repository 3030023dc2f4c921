"""All capabilities, in the order in which a migration takes them. One that is not declared creates nothing."""

from collections.abc import Mapping
from typing import Final

from lifecycle.access.capability import ACCESS
from lifecycle.archive.capability import ARCHIVE
from lifecycle.cold.capability import COLD
from lifecycle.consent.capability import CONSENT
from lifecycle.declarations.application import Application
from lifecycle.erasures.capability import ERASURES
from lifecycle.expiry.capability import EXPIRY
from lifecycle.indexes.capability import INDEXES
from lifecycle.ledger.capability import LEDGER
from lifecycle.migrating.capability import Capability
from lifecycle.partitions.capability import PARTITIONS
from lifecycle.person_export.capability import PERSON_EXPORT
from lifecycle.requests.capability import REQUESTS_OF_OURS
from lifecycle.review.capability import REVIEW
from lifecycle.segments.capability import SEGMENTS
from lifecycle.views.capability import VIEWS

# Where a migration remembers what it applied; made first.
STATE: Final = Capability("migrating", declared=lambda _: True)

# What all others stand on, whatever is declared.
BASE: Final = (STATE, LEDGER)

CAPABILITIES: Final = (
    *BASE,
    PARTITIONS,
    COLD,
    ARCHIVE,
    VIEWS,
    EXPIRY,
    SEGMENTS,
    REQUESTS_OF_OURS,
    ERASURES,
    PERSON_EXPORT,
    CONSENT,
    INDEXES,
    ACCESS,
    REVIEW,
)


def declared_capabilities(application: Application) -> tuple[Capability, ...]:
    """Those that this application asks for, in order."""
    return tuple(capability for capability in CAPABILITIES if capability.declared(application))


def declared_executors(application: Application) -> Mapping[str, tuple[str, ...]]:
    """Which roles may execute which function of ours, by its signature; nobody may execute another one."""
    return {
        signature: roles
        for capability in declared_capabilities(application)
        for signature, roles in capability.executors.items()
    }
