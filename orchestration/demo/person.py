"""A person takes back a consent, by SQL, and asks what is held about them: the hourly job does the one, a command the
other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lifecycle.consent.apply import JOB, rows_against_consent
from lifecycle.database import connect
from lifecycle.person_export.export import PersonExport, export_person
from orchestration.cli.session import cold_storage
from orchestration.demo.runs import Runner
from sandbox.play import withdraw_consent

OPERATOR: Final = "demo"


@dataclass(frozen=True)
class Person:
    """Rows that stood against somebody's withdrawal, by table, and how many stand after the run; the export of their
    data, which is made in a folder of the demo's.
    """

    against: Mapping[str, int]
    left: int
    export: PersonExport

    @property
    def fault(self) -> str | None:
        """Why this is not what the demo should show; None when it is."""
        if not self.against:
            return "nothing stood against the withdrawal"
        if self.left:
            return f"{self.left:,} rows stand against consent after {JOB}"
        return None if self.export.rows else "the export holds no row"


def serve_somebody(runner: Runner, url: str, folder: Path) -> Person:
    """Insert a withdrawal, run the job that carries it out, write the export of the same person."""
    with connect(url) as conn:
        account = withdraw_consent(conn)
        against = {each.table: each.rows for each in rows_against_consent(conn)}
        runner.run(JOB)
        left = sum(each.rows for each in rows_against_consent(conn))
        now = datetime.now(UTC)
        target = folder / f"export of {now:%Y-%m-%d %H%M%S}"
        export = export_person(
            conn, runner.application, account, target, operator=OPERATOR, now=now, storage=cold_storage()
        )
    return Person(against, left, export)
