"""What the tests around kept views share: two of the shipped declarations and nothing else, and a view replaced."""

from lifecycle.database import connect, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.views import KeptView, Views
from lifecycle.names import QualifiedName
from lifecycle.views.definition import cut_definition
from lifecycle.views.seam import own_definition
from tests.declared import APPLICATION

# Over an archived table, and over others.
DETAILS, DAILY = (QualifiedName("public", name) for name in ("session_details", "daily_active_users"))
ABSENT = QualifiedName("public", "of_next_year")
COMMENT = "select obj_description(%s::regclass, 'pg_class')"
DEFINITION = "select pg_get_viewdef(%s::regclass)"


def few(*, archive: bool = False, **kept: KeptView) -> Application:
    """Two views and one that the application lacks; the archive of the table that the first one reads, if asked for."""
    named = {QualifiedName("public", name): view for name, view in kept.items()}
    views = Views(kept={DETAILS: KeptView(), DAILY: KeptView(), ABSENT: KeptView(optional=True)} | named)
    found = Application(views=views, database=APPLICATION.database, relations=APPLICATION.relations)
    return found.model_copy(update={"archive": APPLICATION.archive}) if archive else found


def replaced_by_the_application(url: str, view: QualifiedName, schema: str = "public") -> None:
    """Its own definition again, as a migration of the application would write it, which knows of no archive."""
    with connect(url) as conn, conn.transaction():
        conn.execute("set local search_path = ''")
        definition = cut_definition(value(conn, DEFINITION, (str(view),))) or ""
        # What stood around it gave the table its bare name.
        conn.execute(f"set local search_path = {schema}".encode())
        conn.execute(f"create or replace view {view} as {own_definition(definition)}".encode())
