"""A database with rows for the hot queries, in the locale of the hosted kind, and a vendor's way to read."""

import json
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
from psycopg import sql

from benchmarks.declared import APPLICATION
from lifecycle.database import Connection, connect_directly
from lifecycle.indexes.model import declared_indexes
from lifecycle.migrating.migrate import upgrade
from sandbox.application import create_application_database
from sandbox.server import SUPERUSER, Server

# Hosted projects have C.UTF-8 or en_US.UTF-8: letters of every script are letters, and LIKE needs an index of its own.
LOCALE: Final = "C.UTF-8"
# The indexes of queries, and the one that row-level security reads for a vendor.
INDEXES: Final = tuple(
    index
    for index in declared_indexes(APPLICATION)
    if index.query or index.name == "voucher_redemptions_vendor_member_idx"
)
FILL: Final = Path(__file__).with_suffix(".sql")


def create_filled_database(server: Server, name: str, count: int) -> str:
    """A migrated database without the hot-query indexes and with `count` rows a table; the owner's URL."""
    url = create_application_database(server, name, locale=LOCALE)
    upgrade(url, APPLICATION)
    with connect_directly(url, application_name="benchmark") as owner:
        for index in INDEXES:
            owner.execute(sql.SQL("drop index {}").format(index.qualified_name.identifier))
    with connect_directly(server.url(name, user=SUPERUSER), application_name="benchmark") as admin:
        # Without triggers and foreign key checks for each row.
        admin.execute("set session_replication_role = replica; set synchronous_commit = off")
        for statement in FILL.read_text(encoding="utf-8").split(";\n"):
            psycopg.ClientCursor(admin).execute(statement.encode(), {"rows": count})
        admin.execute("vacuum (analyze)")
    return url


def vendor_session(server: Server, name: str, member: int) -> Connection:
    """A session as the API makes it for the sign-in user of a vendor's member."""
    conn = psycopg.connect(server.url(name, user="authenticator"), autocommit=True, prepare_threshold=None)
    conn.execute("set role authenticated")
    claims = json.dumps({"role": "authenticated", "sub": str(UUID(int=member))})
    conn.execute("select set_config('request.jwt.claims', %s, false)", (claims,))
    return conn
