"""Make a database of the second application as it stands before this project touches it."""

from pathlib import Path
from typing import Final

import psycopg

from sandbox.application import create_supabase_database
from sandbox.server import Server

FOLDER: Final = Path(__file__).parent
DECLARATIONS: Final = FOLDER / "declarations"


def create_second_database(server: Server, name: str) -> str:
    """Create database `name` with Supabase's part, the application's schema and a few months of rows; its URL as
    `postgres`. Raises SandboxError when the database exists already.
    """
    url = create_supabase_database(server, name, auto_grant=False)
    with psycopg.connect(url) as conn:
        for file in ("schema.sql", "rows.sql"):
            conn.execute((FOLDER / file).read_bytes())
    return url
