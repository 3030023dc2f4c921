"""Who may see what: the matrix as it stands in the database, and whether that is what was declared."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

import dagster as dg

from assets.application import application_key
from assets.bundle import Bundle
from assets.checks import Finding, checks_of_one_look, listed
from assets.tables import markdown_table
from lifecycle.access.abbreviated import GUARDS, LEGEND, short_cell, short_object
from lifecycle.access.declared import declared_access
from lifecycle.access.matrix import SHOWN_ROLES, Closed, MatrixRow
from lifecycle.access.report import AccessReport, access_report
from lifecycle.declarations.application import Application
from resources.postgres import ApplicationDatabase, retried_when_busy

KEY: Final = dg.AssetKey(["access_policies"])
GROUP: Final = "access"
OWNERS: Final = ["team:data-platform"]
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
HOW_TO: Final = "docs/how-to/read-the-access-matrix.md"


def matrix_markdown(matrix: Sequence[MatrixRow]) -> str:
    """One line per object, one column per role, verbs as letters: as wide as the dialog in which the UI opens it."""
    heading = ("object", "by", *SHOWN_ROLES)
    lines = [
        (
            f"`{short_object(row)}`",
            GUARDS.get(row.guarded, row.guarded),
            *(short_cell(row.access.get(role, "")) or "-" for role in SHOWN_ROLES),
        )
        for row in matrix
    ]
    return "\n".join((*markdown_table(heading, lines), "", *LEGEND))


def closed_markdown(closed: Sequence[Closed]) -> str:
    """One line per table, view or function: the role and privileges that it has no more, kept for the way back."""
    return "\n".join(markdown_table(("object", "was open"), ((f"`{each.object}`", each.told) for each in closed)))


def report_metadata(report: AccessReport) -> dict[str, Any]:
    """The matrix, what was closed, and counts of what is not as it should be."""
    return {
        "matrix": dg.MetadataValue.md(matrix_markdown(report.matrix)),
        "closed_by_lifecycle_migrate": dg.MetadataValue.md(closed_markdown(report.closed)),
        "objects": len(report.matrix),
        "differences": len(report.differences),
        "exposed_of_ours": len(report.own_exposures),
        "undeclared": len(report.undeclared),
        "changed_by_the_application": len(report.drifts),
        "open_to_anybody": len(report.open_to_anybody),
    }


def access_asset(application: Application) -> dg.AssetsDefinition:
    """The asset that shows the matrix."""
    relations = declared_access(application).relations

    @dg.asset(
        key=KEY,
        deps=[application_key(relation.name) for relation in relations if relation.row_security],
        group_name=GROUP,
        description=(
            "Who may do what with which rows: the catalog (grants, row-level security, policies, functions) against "
            "access.yaml. Nothing is changed here; `lifecycle migrate` makes it as declared."
        ),
        kinds={"postgres"},
        owners=OWNERS,
        freshness_policy=FRESHNESS,
        code_version="1",
    )
    def access_policies(database: ApplicationDatabase) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.transaction() as conn:
            report = access_report(conn, application)
        return dg.MaterializeResult(metadata=report_metadata(report))

    return access_policies


def access_is_as_declared(report: AccessReport) -> Finding:
    """Grants, row-level security and policies are what the declaration says, neither more nor less."""
    if report.differences:
        told = [f"{found.object}: {', '.join(found.told)}" for found in report.differences]
        text = f"{listed(told)}. Read {HOW_TO}; `lifecycle migrate` makes it as declared"
        return Finding(False, text, {"objects": len(told)})
    return Finding(True, "as declared", {"objects": 0})


def nothing_of_ours_is_exposed(report: AccessReport) -> Finding:
    """Schemas lifecycle, event_partitions and private are closed, and so is every partition."""
    if report.own_exposures:
        told = [f"{found.object}: {found.told}" for found in report.own_exposures]
        return Finding(False, f"{listed(told)}; revoke it from that role", {"exposures": len(told)})
    return Finding(True, "closed to everybody but the owner", {"exposures": 0})


def application_access_is_accepted(report: AccessReport) -> Finding:
    """The application's own policies and grants are as they were accepted, and all that the API reaches is declared."""
    told = [f"{drift.object}: {drift.told}" for drift in report.drifts]
    told += [f"{found.object}: {found.told}" for found in report.undeclared]
    metadata = {"changed": len(report.drifts), "undeclared": len(report.undeclared)}
    if told:
        text = f"{listed(told)}. If that is meant: `lifecycle access accept`, or declare it ({HOW_TO})"
        return Finding(False, text, metadata)
    return Finding(True, "as accepted", metadata)


def no_table_is_open_to_anybody(report: AccessReport) -> Finding:
    """Nobody without a sign-in may change a whole table."""
    metadata = {"tables": len(report.open_to_anybody)}
    if report.open_to_anybody:
        told = [f"{found.object} ({found.told})" for found in report.open_to_anybody]
        text = f"{listed(told)}. The application has it so; {HOW_TO} says how to close it"
        return Finding(False, text, metadata)
    return Finding(True, "every table is guarded or closed", metadata)


CHECKS: Final[tuple[tuple[Callable[[AccessReport], Finding], dg.AssetCheckSeverity], ...]] = (
    (access_is_as_declared, dg.AssetCheckSeverity.ERROR),
    (nothing_of_ours_is_exposed, dg.AssetCheckSeverity.ERROR),
    (application_access_is_accepted, dg.AssetCheckSeverity.WARN),
    (no_table_is_open_to_anybody, dg.AssetCheckSeverity.WARN),
)


def bundle(application: Application) -> Bundle:
    """The matrix and its checks."""
    if not application.access.relations:
        return Bundle()
    checks = checks_of_one_look("access_checks", KEY, CHECKS, partial(access_report, application=application))
    return Bundle(assets=[access_asset(application)], checks=[checks])
