"""Moving a database between revisions."""

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, pool

from lifecycle import migrate
from lifecycle.database import Connection, connect, sqlalchemy_url

# It stays on the way back: others may use it by then.
PG_TRGM = "extension pg_trgm in extensions"


def session(url: str) -> Connection:
    return connect(url, application_name="test")


def downgrade(url: str, target: str = "base") -> None:
    move(url, command.downgrade, target)


def move(url: str, direction: Callable[[Config, str], None], target: str) -> None:
    """To a revision, without what `lifecycle migrate` does around it."""
    config: Config = migrate._config()
    engine = create_engine(sqlalchemy_url(url), poolclass=pool.NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        direction(config, target)
        connection.commit()
