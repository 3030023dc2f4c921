"""The people of the erasure's benchmark: about sixty rows each, in every table that an erasure reaches."""

from pathlib import Path
from typing import Final

from lifecycle.database import connect_directly
from sandbox.application import create_application_database
from sandbox.server import SUPERUSER, Server

PEOPLE: Final = Path(__file__).with_name("erasure_people.sql")


def make_people(server: Server, name: str, accounts: int) -> str:
    """An application database of so many accounts, not migrated yet; returns its URL as role postgres."""
    url = create_application_database(server, name)
    with connect_directly(server.url(name, user=SUPERUSER), application_name="benchmark") as conn:
        # Rows that are made to fit need no foreign key checked and no trigger fired.
        conn.execute("set session_replication_role = replica")
        conn.execute("select set_config('benchmark.accounts', %s, false)", (str(accounts),))
        conn.execute(PEOPLE.read_bytes())
        conn.execute("vacuum (analyze)")
    return url
