"""Run SQL of a revision verbatim: the file beside it, or statements made from the policy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from alembic import context, op
from psycopg import sql


def _run(statements: str) -> None:
    """Goes to the driver without parameters: SQLAlchemy's text() would read the colons of plpgsql as binds."""
    if context.is_offline_mode():
        op.get_context().impl.static_output(statements)
        return
    driver_connection = op.get_bind().connection.driver_connection
    assert driver_connection is not None  # noqa: S101 - a bound connection always has one
    driver_connection.execute(statements)


def run_sql_file(revision_file: str, direction: Literal["upgrade", "downgrade"]) -> None:
    """Run `<revision>.sql` or `<revision>.downgrade.sql`."""
    suffix = ".sql" if direction == "upgrade" else ".downgrade.sql"
    _run(Path(revision_file).with_suffix(suffix).read_text(encoding="utf-8"))


def run_statements(statements: Sequence[sql.SQL | sql.Composed]) -> None:
    """Run statements that the driver has composed."""
    _run("".join(f"{statement.as_string(None)};\n" for statement in statements))
