"""Each capability by itself, and none: nothing else is made in the database, planned, scheduled or shown."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import dagster as dg
import pytest

from lifecycle.database import connect, rows, value
from lifecycle.declarations.loader import load_application
from orchestration.definitions import build_definitions
from sandbox.application import clone_database, drop_database
from sandbox.second.database import DECLARATIONS, create_second_database
from sandbox.server import Server
from tests.second import call
from tests.templates import close_to_sessions

pytestmark = pytest.mark.one_server

# Everything that is visible of a database outside of our own schema: a view that answers from a table is another text.
OUTSIDE: Final = """
select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_'
 union all
select format('relation %s %s %s', c.oid::regclass, c.relkind, c.relacl)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname !~ '^(pg_|lifecycle|information_schema)'
 union all
select format('text %s %s', c.oid::regclass, md5(pg_get_viewdef(c.oid)))
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('v', 'm') and n.nspname !~ '^(pg_|lifecycle|information_schema)'
 union all
select format('function %s', p.oid::regprocedure)
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where n.nspname !~ '^(pg_|lifecycle|information_schema)'
 union all
select format('trigger on %s', tgrelid::regclass) from pg_trigger where not tgisinternal
 union all
select format('policy on %s', polrelid::regclass) from pg_policy
"""
INSTALLED: Final = "select capability from lifecycle.migrated_declarations"
GROUND: Final = {"migrating", "ledger", "review"}
ALWAYS: Final = {"check_declarations", "prune_dagster_storage", "record_storage", "weekly_job_review"}


@dataclass(frozen=True)
class Alone:
    """A file of declarations, and all that it may bring along: in the plan, as jobs, and beginnings of what is new."""

    file: str
    installed: frozenset[str]
    planned: str
    jobs: frozenset[str]
    made: tuple[str, ...]


EACH: Final = (
    Alone("", frozenset(), "", frozenset(), ()),
    Alone(
        "event_tables",
        frozenset({"partitions"}),
        "partitions",
        frozenset({"convert_event_tables", "rotate_event_partitions"}),
        ("schema event_partitions", "function rotate_event_partitions("),
    ),
    Alone(
        "views",
        frozenset({"views"}),
        "views",
        frozenset({"refresh_analytics_hourly", "refresh_derived_statistics", "reconcile_statistics"}),
        (
            'text shop."DailyViews"',
            'text shop."OrdersOfUser"',
            'trigger on shop."Order"',
            'trigger on shop."PageView"',
            "function figures_as_of(",
            "function reconcile_statistics(",
            "function refresh_",
        ),
    ),
    Alone(
        # Views that read an archived table stand on both: their functions come along, and nothing of them is shown.
        "archive",
        frozenset({"archive", "views"}),
        "archive",
        frozenset({"archive_OrderNote"}),
        (
            'relation shop."OrderNoteArchive',
            'policy on shop."OrderNoteArchive"',
            'trigger on shop."Order"',
            "function figures_as_of(",
            "function reconcile_statistics(",
            "function refresh_",
        ),
    ),
    Alone(
        "personal_data",
        frozenset({"erasures", "person_export"}),
        "erasures",
        frozenset({"erase_personal_data"}),
        (
            *(f"function {name}_deletion_" for name in ("cancel", "enqueue", "hold", "process", "release")),
            "function find_returned_personal_data(",
        ),
    ),
    Alone(
        "indexes",
        frozenset({"indexes"}),
        "indexes",
        frozenset({"build_hot_query_indexes"}),
        ("relation shop.order_by_user_idx",),
    ),
    Alone(
        "access",
        frozenset({"access"}),
        "access",
        frozenset({"compare_access"}),
        (
            'relation shop."PointBalance"',
            "schema private",
            "function private.claims()",
            "function is_ops_role()",
        ),
    ),
)


@pytest.fixture(scope="module")
def plain(server: Server) -> Iterator[str]:
    name = "second_plain"
    drop_database(server, name)
    create_second_database(server, name)
    close_to_sessions(server, name)
    yield name
    drop_database(server, name)


@pytest.mark.parametrize("alone", EACH, ids=lambda alone: alone.file or "nothing")
def test_nothing_else(alone: Alone, server: Server, plain: str, tmp_path: Path) -> None:
    for file in filter(None, ("database", alone.file)):
        shutil.copy(DECLARATIONS / f"{file}.yaml", tmp_path)
    url = clone_database(server, plain, "alone")
    try:
        with connect(url) as conn:
            before = {text for (text,) in rows(conn, OUTSIDE)}
        call(url, "migrate", declarations=tmp_path)
        assert "agree" in call(url, "check", declarations=tmp_path)
        planned = call(url, "plan", declarations=tmp_path)
        with connect(url) as conn:
            new = {text for (text,) in rows(conn, OUTSIDE)} - before - {"schema lifecycle"}
            assert {name for (name,) in rows(conn, INSTALLED)} == GROUND | alone.installed
        unexpected = [text for text in new if not text.startswith(alone.made)] if alone.made else list(new)
        assert unexpected == []
        assert [each for each in alone.made if not any(text.startswith(each) for text in new)] == []
        others = {each.planned for each in EACH if each.planned} - {alone.planned}
        assert not [name for name in others if f"{name} " in planned.partition("pooler")[2]], planned
    finally:
        drop_database(server, "alone")
    shown = build_definitions(load_application(tmp_path))
    assert {job.name for job in shown.jobs or ()} == ALWAYS | alone.jobs
    scheduled = {each.job_name for each in shown.schedules or () if isinstance(each, dg.ScheduleDefinition)}
    assert scheduled <= ALWAYS | alone.jobs
    checks = {check.name for key in shown.asset_checks or () for check in key.check_specs}
    assert ("no_overdue_deletions" in checks) == (alone.file == "personal_data")


def test_a_function_of_the_application_does_not_give_way(server: Server, plain: str, tmp_path: Path) -> None:
    shutil.copy(DECLARATIONS / "views.yaml", tmp_path)
    url = clone_database(server, plain, "alone")
    theirs = "create function public.figures_as_of(view text) returns timestamptz language sql as 'select now()'"
    try:
        with connect(url) as conn:
            conn.execute(theirs.encode())
            told = call(url, "migrate", code=1, declarations=tmp_path)
            assert "function public.figures_as_of(view text) exists and is not of this project" in told
            assert value(conn, "select prosrc from pg_proc where proname = 'figures_as_of'") == "select now()"
            conn.execute("alter function public.figures_as_of rename to prices_as_of")
            call(url, "migrate", declarations=tmp_path)
            assert value(conn, "select prosrc from pg_proc where proname = 'prices_as_of'") == "select now()"
    finally:
        drop_database(server, "alone")
