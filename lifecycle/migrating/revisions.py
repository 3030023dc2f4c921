"""Alembic's part: tables, columns and data of each capability, on a branch of revisions of its own."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, pool

from lifecycle.database import sqlalchemy_url
from lifecycle.errors import RefusedError
from lifecycle.migrating.capability import Capability

STATE_SCHEMA: Final = "lifecycle"
# DDL of a migration may wait this long behind the application, then gives way and tries again.
LOCK_TIMEOUT: Final = "500ms"
RUNNING: Final = re.compile(r"^-- Running upgrade .*?-> ([a-z_]+)_[0-9]+$", re.MULTILINE)


# Where Alembic begins and ends transactions; a script of ours says so itself.
EDGES: Final = re.compile(r"^(BEGIN|COMMIT);$", re.MULTILINE)
VERSIONS: Final = "versions"


def alembic_config() -> Config:
    """Where the revisions are."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations").replace("%", "%%"))
    return config


@contextmanager
def _session(url: str, ran: list[str]) -> Iterator[Config]:
    """A configuration whose commands run in one session and note each revision that they ran."""

    def note(*, step: Any, **_: Any) -> None:
        ran.extend(revision.revision for revision in (step.up_revision,))

    config = alembic_config()
    engine = create_engine(
        sqlalchemy_url(url),
        poolclass=pool.NullPool,
        connect_args={"prepare_threshold": None, "application_name": "lifecycle migrate"},
    )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"set lock_timeout = '{LOCK_TIMEOUT}'")
            connection.exec_driver_sql("set statement_timeout = 0")
            connection.commit()
            config.attributes["connection"] = connection
            config.attributes["on_version_apply"] = note
            yield config
            connection.commit()
    except CommandError as error:
        raise RefusedError(
            f"the revisions of this database are not those of this release: {str(error).rstrip('.')}. Install the "
            "release that migrated it last, or a newer one, then run this again"
        ) from None
    finally:
        engine.dispose()


def _branches() -> frozenset[str]:
    scripts = ScriptDirectory.from_config(alembic_config())
    return frozenset(label for revision in scripts.walk_revisions() for label in revision.branch_labels)


def run_revisions(url: str, capabilities: Sequence[Capability]) -> tuple[str, ...]:
    """Bring the branch of each capability to its newest revision; a line per revision that ran.

    Each revision is one transaction. Raises sqlalchemy's OperationalError when a lock stayed taken.
    """
    ran: list[str] = []
    branches = _branches()
    with _session(url, ran) as config:
        for capability in capabilities:
            if capability.name in branches:
                command.upgrade(config, f"{capability.name}@head")
    return tuple(f"revision {name}" for name in ran)


def undo_revisions(url: str, capability: Capability) -> tuple[str, ...]:
    """Take the branch of one capability back; a line per revision."""
    ran: list[str] = []
    if capability.name in _branches():
        with _session(url, ran) as config:
            command.downgrade(config, f"{capability.name}@base")
    return tuple(f"revision {name}: taken back" for name in ran)


def revisions_sql(capabilities: Sequence[Capability]) -> dict[str, str]:
    """What the revisions run on a database that has none of them, by capability, in order."""
    script, config = StringIO(), alembic_config()
    config.output_buffer = script
    branches = _branches()
    wanted = {capability.name for capability in capabilities if capability.name in branches}
    revisions = list(ScriptDirectory.from_config(config).walk_revisions())
    # Alembic takes a branch along where another one depends on its newest revision, and refuses to be told so.
    newest = {revision.revision for revision in revisions if revision.is_head}
    taken_along = {
        name.rpartition("_")[0]
        for revision in revisions
        if wanted & revision.branch_labels
        for name in ([revision.dependencies] if isinstance(revision.dependencies, str) else revision.dependencies or ())
        if name in newest
    }
    heads = tuple(sorted(f"{name}@head" for name in wanted - taken_along))
    command.upgrade(config, heads, sql=True)  # type: ignore[arg-type]
    parts = RUNNING.split(script.getvalue())
    found: dict[str, str] = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        found[name] = found.get(name, "") + EDGES.sub("", text.strip()).strip() + "\n"
    return {VERSIONS: EDGES.sub("", parts[0].strip()).strip() + "\n", **found}
