"""Everything that people ask about access, from one look: the matrix, what differs, what is open, what was closed."""

from collections import defaultdict
from dataclasses import dataclass

from lifecycle.access.accepted import Drift, drifts, require_migrated
from lifecycle.access.change import Change, in_words
from lifecycle.access.changes import access_changes
from lifecycle.access.check import undeclared_exposures
from lifecycle.access.declared import declared_access
from lifecycle.access.exposures import Exposure, own_exposures, tables_open_to_anybody
from lifecycle.access.matrix import Closed, MatrixRow, access_matrix, closed_before
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.language import Phrase
from lifecycle.migrating.capabilities import declared_executors


@dataclass(frozen=True)
class Difference:
    """An object that is not as declared, and everything that `lifecycle migrate` would change about it."""

    object: str
    told: tuple[Phrase, ...]


@dataclass(frozen=True)
class AccessReport:
    """How the catalog stands against the declaration and against what was accepted."""

    matrix: tuple[MatrixRow, ...]
    differences: tuple[Difference, ...]
    own_exposures: tuple[Exposure, ...]
    undeclared: tuple[Exposure, ...]
    drifts: tuple[Drift, ...]
    open_to_anybody: tuple[Exposure, ...]
    closed: tuple[Closed, ...]


def access_differences(conn: Connection, application: Application) -> tuple[Difference, ...]:
    """What `lifecycle migrate` would change, object by object. Works on a database without any of ours, too."""
    changes: dict[str, list[Change]] = defaultdict(list)
    for change in access_changes(conn, declared_access(application)):
        changes[change.object].append(change)
    return tuple(Difference(name, tuple(in_words(found))) for name, found in changes.items())


def access_report(conn: Connection, application: Application) -> AccessReport:
    """Read the catalog; milliseconds, whatever the size of the data. Raises RefusedError before the first migration."""
    require_migrated(conn)
    declared = declared_access(application)
    return AccessReport(
        matrix=access_matrix(conn, declared),
        differences=access_differences(conn, application),
        own_exposures=own_exposures(conn, declared_executors(application)),
        undeclared=undeclared_exposures(conn, application),
        drifts=drifts(conn, declared),
        open_to_anybody=tables_open_to_anybody(conn, declared),
        closed=closed_before(conn),
    )
