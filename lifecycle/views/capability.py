"""Refreshed views in a migration."""

from collections.abc import Iterator
from typing import Final

from psycopg import sql

from lifecycle.cold.narrow import index_narrow_tables
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.declarations.model import interval
from lifecycle.migrating.capability import Capability, Statements
from lifecycle.views.archived import rows_elsewhere, show_elsewhere
from lifecycle.views.give_back import give_back, kept_views
from lifecycle.views.keep import keep_views

FORGET: Final = sql.SQL("delete from lifecycle.materialized_view_policies")
WRITE: Final = sql.SQL(
    """insert into lifecycle.materialized_view_policies (schema_name, view_name, max_age, optional)
values ({}, {}, {}, {})"""
)
# What is known of a view that is no longer declared would be taken for the state of a later one of that name, and what
# fails of it would never be reported well again.
FORGET_STATES: Final = """
delete from lifecycle.refresh_states s
 where not exists (select from lifecycle.materialized_view_policies p
                    where s.name = format('%I.%I', p.schema_name, p.view_name))
"""
FORGET_PROBLEMS: Final = r"""
select lifecycle.report_outcome(p.job, p.cause, null) from lifecycle.open_problems p
 where p.job = 'refresh_analytics_hourly' and p.cause <> '' and p.cause !~ '^(run of|check|stale) '
   and not exists (select from lifecycle.materialized_view_policies v
                    where p.cause = format('%I.%I', v.schema_name, v.view_name))
"""


def view_policies(application: Application) -> Statements:
    """Which materialized views are refreshed, and the age that they may have."""
    views = [
        WRITE.format(
            sql.Literal(name.schema), sql.Literal(name.name), interval(view.max_age), sql.Literal(view.optional)
        )
        for name, view in application.views.materialized.items()
    ]
    return FORGET, *views


def view_objects(conn: Connection, application: Application) -> Iterator[str]:
    """Keep the declared views, let the others see rows that stand elsewhere, forget what is known of others."""
    places = rows_elsewhere(conn, application)
    yield from keep_views(conn, application.views, places)
    yield from show_elsewhere(conn, places)
    yield from index_narrow_tables(conn, application)
    with conn.transaction():
        conn.execute(FORGET_STATES.encode())
        conn.execute(FORGET_PROBLEMS.encode())


def give_all_back(conn: Connection, _application: Application) -> Iterator[str]:
    """Every kept view computes its rows itself again."""
    yield from give_back(conn, list(kept_views(conn)))


VIEWS: Final = Capability(
    "views",
    declared=lambda application: bool(
        application.views.materialized
        or application.views.kept
        or application.archived_tables
        or any(table.cold_after for table in application.event_tables.values())
    ),
    files=("views.sql", "kept.sql"),
    executors={"public.figures_as_of(view text)": ("ops", "service_role")},
    policies=view_policies,
    objects=view_objects,
    undo=give_all_back,
    works_on_rows=True,
)
