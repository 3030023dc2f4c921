"""`lifecycle check`: what it finds after the application went on without asking, and that its lines cure it."""

from pathlib import Path

import dagster as dg
import pytest

from assets.checking import CAUSE, CHECK, JOB
from lifecycle.checking.check import check_declarations
from lifecycle.checking.mismatch import Mismatch
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import load_application
from lifecycle.ledger.problems import open_causes
from lifecycle.migrating.migrate import upgrade
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from sandbox.application import apply_december
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.migrating import session
from tests.november import november, paste

pytestmark = pytest.mark.one_server

NEW = {
    "public.account_utm_attributions",
    "public.booking_leads",
    "public.page_dwell_events",
    "public.daily_kpi_summary",
    "public.page_dwell_summary",
    "public.search_query_category_stats",
    "public.search_query_radius_buckets",
}
GONE = {"public.quiz_results", "public.quiz_answers", "public.quiz_forms", "public.account_profiles"}


def check(url: str, application: Application) -> tuple[Mismatch, ...]:
    with session(url) as conn:
        return check_declarations(conn, application)


def objects(found: tuple[Mismatch, ...]) -> set[str]:
    return {mismatch.object for mismatch in found}


@pytest.mark.parametrize("later", [False, True])
def test_the_shipped_declarations_fit_both_states(make_application_db: MakeApplicationDb, later: bool) -> None:
    url = make_application_db(rows=False)
    if later:
        apply_december(url)
    upgrade(url, APPLICATION)
    assert check(url, APPLICATION) == ()


@pytest.mark.every_version
def test_december_is_named_and_the_lines_cure_it(make_application_db: MakeApplicationDb, tmp_path: Path) -> None:
    url = make_application_db(rows=False)
    folder = november(tmp_path)
    upgrade(url, load_application(folder))
    assert check(url, load_application(folder)) == ()
    apply_december(url)
    found = check(url, load_application(folder))
    assert objects(found) >= NEW | GONE
    assert "public.chat_messages_archive" in objects(found)
    for mismatch in found:
        assert mismatch.told
    paste(folder, found)
    upgrade(url, load_application(folder))
    assert check(url, load_application(folder)) == ()


def test_before_the_first_migration(make_application_db: MakeApplicationDb) -> None:
    found = check(make_application_db(rows=False), APPLICATION)
    assert ("the database", "has nothing of the declared: run `lifecycle migrate`") in {
        (mismatch.object, mismatch.told) for mismatch in found
    }


def test_what_is_not_migrated_or_was_changed_by_hand(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with session(url) as conn:
        conn.execute("drop function lifecycle.first_line(text)")
    tables = dict(APPLICATION.event_tables)
    name, table = tables.popitem()
    changed = APPLICATION.model_copy(
        update={
            "event_table_file": APPLICATION.event_table_file.model_copy(
                update={"root": {**tables, name: table.model_copy(update={"keep": "3 years", "time": "tme"})}}
            )
        }
    )
    found = {mismatch.object: mismatch.told for mismatch in check(url, changed)}
    assert found["partitions"].startswith("declarations changed since the last `lifecycle migrate`")
    assert found["lifecycle.first_line(message text)"].startswith("is gone since it was applied")
    assert "(there is " in found[f"{name}.tme"] or "does not exist" in found[f"{name}.tme"]


def test_the_asset_warns_and_people_hear_of_it_until_it_is_cured(
    make_application_db: MakeApplicationDb, instance: dg.DagsterInstance
) -> None:
    url = make_application_db(rows=False, migrated=True)
    definitions = build_definitions(APPLICATION, database=ApplicationDatabase(url=url))
    job = definitions.resolve_job_def(JOB)
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    for broken in (True, False):
        with session(url) as conn:
            if broken:
                conn.execute("drop function lifecycle.milliseconds_since(timestamptz)")
            else:
                upgrade(url, APPLICATION)
        result = job.execute_in_process(instance=instance, run_config=quiet)
        (evaluation,) = result.get_asset_check_evaluations()
        assert (evaluation.check_name, evaluation.passed) == (CHECK, not broken)
        assert evaluation.severity is dg.AssetCheckSeverity.WARN
        with session(url) as conn:
            assert open_causes(conn, CAUSE, JOB) == ([(JOB, CAUSE)] if broken else [])
