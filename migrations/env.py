"""Alembic's entry point: one transaction per revision, version table in schema `lifecycle`."""

from alembic import context
from sqlalchemy import create_engine, pool

from lifecycle.database import sqlalchemy_url
from lifecycle.policy import STATE_SCHEMA

OPTIONS = {
    "version_table": "alembic_version",
    "version_table_schema": STATE_SCHEMA,
    "transaction_per_migration": True,
}


def configured_url() -> str:
    url = context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True).get("url")
    if not url:
        raise SystemExit("no database: run `lifecycle migrate`, or alembic -x url=postgresql://...")
    return sqlalchemy_url(url)


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
elif (connection := context.config.attributes.get("connection")) is not None:
    context.configure(connection=connection, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(configured_url(), poolclass=pool.NullPool, connect_args={"prepare_threshold": None})
    with engine.connect() as own_connection:
        context.configure(connection=own_connection, **OPTIONS)
        with context.begin_transaction():
            context.run_migrations()
