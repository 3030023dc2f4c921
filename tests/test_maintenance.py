"""The application's own daily maintenance: as it was, called once a day, and its swallowed errors are heard."""

import dagster as dg
import pytest

from lifecycle.database import connect, rows, value
from lifecycle.declarations.application import Application
from lifecycle.migrating.migrate import upgrade
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.partitioned_fixtures",)

RUN = "select run_daily_maintenance()"
FUNCTION = """
select pg_get_functiondef(p.oid), pg_get_userbyid(p.proowner) from pg_proc p
 where p.oid = 'public.run_daily_maintenance()'::regprocedure
"""
FAIL = """
create or replace function run_daily_maintenance() returns text language plpgsql as $$
begin
    perform ('alice@example.com'::text)::int;
    return 'done';
exception when others then
    return 'Daily maintenance failed: ' || sqlerrm;
end $$
"""


def run(url: str) -> dg.ExecuteInProcessResult:
    definitions = build_definitions(APPLICATION, database=ApplicationDatabase(url=url))
    return definitions.resolve_job_def("run_daily_maintenance").execute_in_process(raise_on_error=False)


@pytest.mark.every_version
def test_a_migration_leaves_it_as_it_was(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    with connect(url) as conn:
        before = rows(conn, FUNCTION)
        upgrade(url, APPLICATION)
        assert rows(conn, FUNCTION) == before


def test_it_succeeds_on_partitioned_tables(partitioned_db: str) -> None:
    with connect(partitioned_db) as conn:
        conn.execute(
            "insert into user_behavior_events (session_id, event_timestamp, page_url) values ('x', '1999-01-01', '/')"
        )
        conn.execute("refresh materialized view account_function_usage")
        assert "failed" not in value(conn, RUN)
        assert value(conn, "select count(*) from user_behavior_events where session_id = 'x'") == 0
    result = run(partitioned_db)
    assert result.success


def test_an_answer_with_the_declared_word_fails_the_run(partitioned_db: str) -> None:
    with connect(partitioned_db) as conn:
        conn.execute(FAIL)
        assert "alice" in value(conn, RUN)
    result = run(partitioned_db)
    assert not result.success
    (failure,) = [event for event in result.all_node_events if event.is_step_failure]
    assert "Daily maintenance failed: invalid input syntax for type integer" in str(failure.step_failure_data.error)
    assert not [event for event in result.all_events if "alice" in str(event)]


def test_what_is_not_declared_has_no_job() -> None:
    database = APPLICATION.database.model_copy(update={"maintenance": None})
    application: Application = APPLICATION.model_copy(update={"database": database})
    names = {job.name for job in build_definitions(application).resolve_all_job_defs()}
    assert "run_daily_maintenance" not in names
    assert "rotate_event_partitions" in names
