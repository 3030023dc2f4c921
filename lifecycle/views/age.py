"""What the comment of a kept view says beside the application's own words: that its figures have an age.

Readers of a dashboard meet the comment, not our tables. The line is the last one, is ours alone, and goes with the
table.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows
from lifecycle.declarations.views import KeptView
from lifecycle.names import QualifiedName

MARK: Final = "lifecycle: answers from a table"
LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
COMMENTS: Final = """
select v.schema_name, v.view_name, obj_description(c.oid, 'pg_class')
  from lifecycle.kept_views v
  join pg_class c on c.oid = to_regclass(format('%I.%I', v.schema_name, v.view_name)) and c.relkind = 'v'
 where lifecycle.kept_definition(c.oid::regclass, v.kept_table) is not null and pg_has_role(c.relowner, 'USAGE')
 order by v.place
"""


def with_age(comment: str | None, name: QualifiedName, every: str) -> str:
    """The application's comment, and our line below it, once."""
    literal = sql.Literal(str(name)).as_string(None)
    line = f"{MARK} refreshed every {every}; select public.figures_as_of({literal}) says when"
    return "\n".join(filter(None, (without_age(comment), line)))


def without_age(comment: str | None) -> str | None:
    """The comment as the application wrote it."""
    before, mark, after = (comment or "").rpartition(MARK)
    if not mark or "\n" in after or (before and not before.endswith("\n")):
        return comment
    return before.removesuffix("\n") or None


def tell_ages(conn: Connection, kept: Mapping[QualifiedName, KeptView]) -> Iterator[str]:
    """Put the line where it is missing or says something else: the application may comment anew. A line per view."""
    for schema, view, comment in rows(conn, COMMENTS):
        name = QualifiedName(schema, view)
        if name not in kept:
            continue
        wanted = with_age(comment, name, kept[name].every)
        if comment != wanted:
            with conn.transaction():
                conn.execute(LOCK_TIMEOUT)
                comment_on(conn, name, wanted)
            yield f"view {name}: its comment says how old its figures may be"


def comment_on(conn: Connection, name: QualifiedName, comment: str | None) -> None:
    """Comment on a view, in the caller's transaction."""
    conn.execute(sql.SQL("comment on view {} is {}").format(name.identifier, sql.Literal(comment)))
