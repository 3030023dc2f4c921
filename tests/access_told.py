"""What the checks of access tell: their names, and what those that fail say."""

from assets.access import CHECKS
from lifecycle.access.report import AccessReport

DECLARED, OURS, ACCEPTED = "access_is_as_declared", "nothing_of_ours_is_exposed", "application_access_is_accepted"


def told(report: AccessReport) -> dict[str, str]:
    """What fails, and what it says."""
    findings = {check.__name__: check(report) for check, _ in CHECKS[:3]}
    return {name: found.description for name, found in findings.items() if not found.passed}
