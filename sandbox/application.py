"""Make a database as it stands before this project touches it: Supabase's part, then the application's."""

from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.errors import SandboxError
from sandbox.server import SUPERUSER, Server

SQL: Final = Path(__file__).parent / "sql"
# The application as of November, in this order; each file is run as `postgres`, as its own migrations are.
NOVEMBER: Final = (
    "enums.sql",
    "tables_people.sql",
    "tables_catalogue.sql",
    "tables_vendors.sql",
    "tables_bookings.sql",
    "tables_quizzes.sql",
    "tables_conversations.sql",
    "tables_articles.sql",
    "tables_tracking.sql",
    "functions.sql",
    "policies.sql",
    "views_chat.sql",
    "views_people.sql",
    "views_conversations.sql",
    "views_content.sql",
)
PUBLICATION: Final = b"create publication supabase_realtime for table chat_messages"


def create_supabase_database(server: Server, name: str, *, auto_grant: bool = True, locale: str | None = None) -> str:
    """Create database `name` with what every Supabase database has, and no application; its URL as `postgres`.

    `auto_grant` and `locale` as in `create_application_database`. Raises SandboxError when it exists already.
    """
    _create(server, name, template="template0", locale=locale)
    with psycopg.connect(server.url(name, user=SUPERUSER)) as conn:
        _run(conn, "supabase.sql")
        if auto_grant:
            _run(conn, "auto_grant.sql")
    return server.url(name)


def create_application_database(
    server: Server, name: str, *, auto_grant: bool = True, locale: str | None = None
) -> str:
    """Create database `name` with the Supabase emulation and the application's empty schema.

    `auto_grant` says whether new objects of schema public are open to the API roles by default, as in projects
    made before 2026; without it the application grants its own objects explicitly. `locale` is one that the server's
    platform has, such as C.UTF-8, which hosted projects use; without it C, which every platform has. Returns the URL
    as role `postgres`. Raises SandboxError when the database exists already.
    """
    url = create_supabase_database(server, name, auto_grant=auto_grant, locale=locale)
    with psycopg.connect(url) as conn:
        for file in NOVEMBER:
            _run(conn, f"november/{file}")
        if not auto_grant:
            _run(conn, "explicit_grants.sql")
        conn.execute(PUBLICATION)
    return url


def clone_database(server: Server, template: str, name: str) -> str:
    """Create `name` as a copy of database `template`, which nobody may be using; return its URL as `postgres`.

    Raises SandboxError when `name` exists already.
    """
    _create(server, name, template=template)
    return server.url(name)


def apply_december(url: str) -> None:
    """Take the application at `url`, adopted or not, to its state of December, as its own migrations do.

    Each step is a transaction, run as the role of `url`: `postgres`. Stops with PostgreSQL's error at the first step
    that fails; those before it stay.
    """
    with psycopg.connect(url, autocommit=True) as conn:
        for step in sorted((SQL / "december").glob("*.sql")):
            with conn.transaction():
                conn.execute(step.read_bytes())


def drop_database(server: Server, name: str) -> None:
    """Drop database `name`, ending its sessions; nothing happens when it does not exist."""
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def _create(server: Server, name: str, template: str, locale: str | None = None) -> None:
    database = sql.Identifier(name)
    chosen = sql.SQL(" locale {}").format(sql.Literal(locale)) if locale else sql.SQL("")
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        try:
            conn.execute(
                sql.SQL("create database {} owner postgres template {} strategy file_copy{}").format(
                    database, sql.Identifier(template), chosen
                )
            )
        except psycopg.errors.DuplicateDatabase as error:
            raise SandboxError(f"database {name} exists already; drop it, or choose another name") from error
        # A setting of a database is not part of what a template hands on.
        conn.execute(sql.SQL('alter database {} set search_path = "$user", public, extensions').format(database))


def _run(conn: psycopg.Connection, file: str) -> None:
    conn.execute((SQL / file).read_bytes())
