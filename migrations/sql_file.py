"""Run the .sql file beside a revision, verbatim."""

from pathlib import Path
from typing import Literal

from alembic import context, op


def run_sql_file(revision_file: str, direction: Literal["upgrade", "downgrade"]) -> None:
    """Run `<revision>.sql` or `<revision>.downgrade.sql`.

    Goes to the driver without parameters: SQLAlchemy's text() would read the colons of plpgsql as binds.
    """
    suffix = ".sql" if direction == "upgrade" else ".downgrade.sql"
    statements = Path(revision_file).with_suffix(suffix).read_text(encoding="utf-8")
    if context.is_offline_mode():
        op.get_context().impl.static_output(statements)
        return
    driver_connection = op.get_bind().connection.driver_connection
    assert driver_connection is not None  # noqa: S101 - a bound connection always has one
    driver_connection.execute(statements)
