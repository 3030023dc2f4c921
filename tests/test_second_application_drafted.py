"""Another application from `lifecycle init` to the end of its first day, by what the draft proposes."""

import re
from pathlib import Path
from typing import Final

import dagster as dg
import pytest

from lifecycle.database import connect, rows, value
from lifecycle.declarations.loader import load_application
from sandbox.application import drop_database
from sandbox.second.database import create_second_database
from sandbox.server import Server
from tests.second import FIRST_DAY, call, everything_moved, run_jobs

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

PARTITIONED: Final = """
select c.oid::regclass::text from pg_class c
 where c.relkind = 'p' and c.relnamespace = any ('{shop, telemetry}'::regnamespace[]) order by 1
"""
EVENT_TABLES: Final = ['shop."PageView"', 'telemetry."PageView"', "telemetry.reading"]
KEPT: Final = 'kept:\n  shop."DailyViews": {every: 1 hour}\n  shop."OrdersOfUser": {}\n'
PROPOSAL: Final = re.compile(r"^# ", re.MULTILINE)


def test_a_draft_in_force_leads_to_a_green_first_day(server: Server, tmp_path: Path) -> None:
    name = "second_drafted"
    drop_database(server, name)
    url = create_second_database(server, name)
    folder = tmp_path / "application"
    try:
        call(url, f"init {folder}")
        for file in folder.glob("*.yaml"):
            file.write_text(PROPOSAL.sub("", file.read_text(encoding="utf-8")), encoding="utf-8")
        # They are light to read here, so the draft only names them.
        views = folder / "views.yaml"
        views.write_text(views.read_text(encoding="utf-8").replace("kept:\n", KEPT), encoding="utf-8")
        call(url, "check", code=1, declarations=folder)
        assert 'shop."DailyViews", shop."OrdersOfUser": would be kept' in call(url, "plan", declarations=folder)
        with connect(url) as conn:
            before = everything_moved(conn)
        call(url, "migrate", declarations=folder)
        assert "agree" in call(url, "check", declarations=folder)
        declared = load_application(folder)
        (archived,) = declared.archived_tables.values()
        with dg.DagsterInstance.ephemeral() as instance:
            run_jobs(url, instance, *FIRST_DAY, declared=declared)
        with connect(url) as conn:
            assert [name for (name,) in rows(conn, PARTITIONED)] == EVENT_TABLES
            assert value(conn, f"select count(*) from {archived.archive}") > 0
            assert everything_moved(conn, str(archived.archive)) == before
            assert value(conn, "select count(*) from lifecycle.notifications where kind = 'report'") == 1
            person = value(conn, 'select "id" from shop."User" order by 1 limit 1')
            asked = value(conn, 'insert into shop."DataRequest" ("userId") values (%s) returning "id"', (person,))
            others = rows(conn, 'select * from shop."PointBalance" where "userId" <> %s', (person,))
            assert "1 of 1 requests erased and proved" in call(url, "erasure run", declarations=folder)
            assert "whole" in call(url, f"erasure receipt {asked}", declarations=folder)
            assert rows(conn, 'select * from shop."PointBalance"') == others
    finally:
        drop_database(server, name)
