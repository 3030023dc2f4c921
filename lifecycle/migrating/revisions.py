"""Alembic's part: tables, columns and data of each capability, on a branch of revisions of its own."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, pool

from lifecycle.database import sqlalchemy_url
from lifecycle.migrating.capability import Capability

STATE_SCHEMA: Final = "lifecycle"
# DDL of a migration may wait this long behind the application, then gives way and tries again.
LOCK_TIMEOUT: Final = "500ms"


def alembic_config() -> Config:
    """Where the revisions are."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations").replace("%", "%%"))
    return config


def run_revisions(url: str, capabilities: Sequence[Capability]) -> tuple[str, ...]:
    """Bring the branch of each capability to its newest revision; a line per revision that ran.

    Each revision is one transaction. Raises sqlalchemy's OperationalError when a lock stayed taken.
    """
    config = alembic_config()
    engine = create_engine(
        sqlalchemy_url(url),
        poolclass=pool.NullPool,
        connect_args={"prepare_threshold": None, "application_name": "lifecycle migrate"},
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"set lock_timeout = '{LOCK_TIMEOUT}'")
        connection.exec_driver_sql("set statement_timeout = 0")
        connection.commit()
        config.attributes["connection"] = connection
        before = _heads(connection)
        for capability in capabilities:
            command.upgrade(config, f"{capability.name}@head")
            connection.commit()
        after = _heads(connection)
    engine.dispose()
    return tuple(f"revision {name}" for name in after if name not in before)


def _heads(connection: object) -> tuple[str, ...]:
    context = MigrationContext.configure(
        connection,  # type: ignore[arg-type]
        opts={"version_table": "alembic_version", "version_table_schema": STATE_SCHEMA},
    )
    return tuple(sorted(context.get_current_heads()))


def revisions_sql(capability: Capability) -> str:
    """What the revisions of one capability run on a database that has none of them."""
    config, script = alembic_config(), StringIO()
    config.output_buffer = script
    scripts = ScriptDirectory.from_config(config)
    if not any(capability.name in revision.branch_labels for revision in scripts.walk_revisions()):
        return ""
    command.upgrade(config, f"{capability.name}@head", sql=True)
    return script.getvalue()
