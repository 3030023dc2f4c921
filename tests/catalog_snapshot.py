"""The definition of everything in a database as lines of text, to compare before with after."""

from pathlib import Path

from lifecycle.database import Connection

QUERY = Path(__file__).with_suffix(".sql").read_bytes()


def catalog_snapshot(conn: Connection) -> set[str]:
    """Every schema, relation, column, constraint, index, trigger, policy, function, type and grant, one line each."""
    with conn.transaction():
        conn.execute("set local search_path = ''")
        return {line for (line,) in conn.execute(QUERY).fetchall()}
