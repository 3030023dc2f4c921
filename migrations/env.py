"""Alembic's entry point: one transaction per revision, version table in schema `lifecycle`."""

from functools import partial

from alembic import context
from sqlalchemy import create_engine, pool

from lifecycle.database import sqlalchemy_url
from lifecycle.migrating.revisions import STATE_SCHEMA

configure = partial(
    context.configure,
    version_table="alembic_version",
    version_table_schema=STATE_SCHEMA,
    transaction_per_migration=True,
    on_version_apply=context.config.attributes.get("on_version_apply"),
)


def configured_url() -> str:
    """The URL of `alembic -x url=...`, for Alembic's own commands."""
    url = context.get_x_argument(as_dictionary=True).get("url")
    if not url:
        raise SystemExit("no database: run `lifecycle migrate`, or alembic -x url=postgresql://...")
    return sqlalchemy_url(str(url))


if context.is_offline_mode():
    configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif (connection := context.config.attributes.get("connection")) is not None:
    configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(configured_url(), poolclass=pool.NullPool, connect_args={"prepare_threshold": None})
    with engine.connect() as own_connection:
        configure(connection=own_connection)
        with context.begin_transaction():
            context.run_migrations()
