"""What the catalog holds, in phrases."""

from collections.abc import Mapping

from psycopg.rows import dict_row

from lifecycle.database import Connection
from lifecycle.language import Phrase


def phrases(conn: Connection, text: str, query: str, params: Mapping[str, object] | None = None) -> list[Phrase]:
    """A phrase for each row of a constant query, whose columns are called as the placeholders of `text`."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return [Phrase(text, **row) for row in cursor.execute(query.encode(), params).fetchall()]
