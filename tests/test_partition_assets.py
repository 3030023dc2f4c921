"""The assets of event partitions at work: convert, rotate, check, and what a failed run leaves in the ledger."""

from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest

from assets.partition_checks import CHECKS
from assets.pictures import png
from assets.timeline import timeline_figure
from lifecycle.database import connect
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.partitions.status import PartitionInfo, PartitionStatus, partition_status
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from sensors.run_outcomes import run_outcomes
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, EVENT_TABLES

pytestmark = pytest.mark.one_server

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
DEFINITIONS = build_definitions(APPLICATION)


def run(job: str, url: str, instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    definitions = build_definitions(APPLICATION, database=ApplicationDatabase(url=url))
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance, raise_on_error=False, run_config={**QUIET, **config}
    )


def audit_rows(url: str) -> list[tuple[str, str, dict[str, object]]]:
    with connect(url) as conn:
        return conn.execute(
            "select entity_id, event_type, payload from audit_events where payload ? 'run_id' order by created_at"
        ).fetchall()


@pytest.mark.every_version
def test_convert_rotate_check(application_db: str, instance: dg.DagsterInstance) -> None:
    with connect(application_db) as conn:
        before = conn.execute("select count(*) from user_behavior_events").fetchone()
    upgrade(application_db, APPLICATION)
    later = run(
        "convert_event_tables",
        application_db,
        instance,
        ops={"choose_tables": {"config": {"tables": ["user_behavior_events"], "split": "later"}}},
    )
    assert later.success
    assert not later.asset_materializations_for_node("convert")
    conversion = run("convert_event_tables", application_db, instance)
    assert conversion.success
    with connect(application_db) as conn:
        assert conn.execute("select count(*) from user_behavior_events").fetchone() == before

    rotation = run("rotate_event_partitions", application_db, instance)
    assert rotation.success
    evaluations = rotation.get_asset_check_evaluations()
    assert len(evaluations) == len(EVENT_TABLES) * len(CHECKS)
    for evaluation in evaluations:
        # The sample rows hold clocks that are years ahead; they stay in the default partition.
        may_warn = evaluation.check_name == "default_partition_empty"
        assert evaluation.passed or may_warn, (evaluation.asset_key, evaluation.check_name, evaluation.description)
    event = instance.get_latest_materialization_event(dg.AssetKey(["event_partitions", "user_behavior_events"]))
    assert event is not None
    materialization = event.asset_materialization
    assert materialization is not None
    metadata = materialization.metadata
    assert metadata["months_ahead"].value == 3
    assert metadata["expired"].value == 0
    assert "data:image/png;base64," in str(metadata["picture"].value)
    assert {"dagster/row_count", "bytes", "actions"} <= set(metadata)

    again = run("convert_event_tables", application_db, instance)
    observations = instance.fetch_observations(dg.AssetKey(["event_partitions", "session_replay_events"]), limit=1)
    assert again.success
    assert observations.records[0].asset_observation.metadata["outcome"].value == "already_partitioned"  # type: ignore[union-attr]
    assert run("run_daily_maintenance", application_db, instance).success

    context = dg.build_sensor_context(instance=instance, definitions=DEFINITIONS)
    result = run_outcomes(context, database=ApplicationDatabase(url=application_db))
    written = [(job, kind) for job, kind, _ in audit_rows(application_db)]
    assert sorted(written) == sorted(
        (job, "job_success")
        for job in (*["convert_event_tables"] * 3, "rotate_event_partitions", "run_daily_maintenance")
    )
    # After a crash the daemon asks again with the old cursor.
    run_outcomes(
        dg.build_sensor_context(instance=instance, definitions=DEFINITIONS),
        database=ApplicationDatabase(url=application_db),
    )
    run_outcomes(
        dg.build_sensor_context(instance=instance, definitions=DEFINITIONS, cursor=result.cursor),  # type: ignore[union-attr]
        database=ApplicationDatabase(url=application_db),
    )
    assert len(audit_rows(application_db)) == len(written)


def test_a_permanent_error_fails_once_and_reaches_the_ledger(
    make_application_db: MakeApplicationDb, instance: dg.DagsterInstance
) -> None:
    url = make_application_db(rows=False, migrated=True)
    result = run("rotate_event_partitions", url, instance)
    assert not result.success
    kinds = [event.event_type for event in result.all_events]
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY not in kinds
    assert kinds.count(dg.DagsterEventType.STEP_FAILURE) == len(EVENT_TABLES)
    unknown = run(
        "convert_event_tables",
        url,
        instance,
        ops={"choose_tables": {"config": {"tables": ["accounts"], "split": "now"}}},
    )
    assert not unknown.success

    with dg.build_sensor_context(instance=instance, definitions=DEFINITIONS) as context:
        run_outcomes(context, database=ApplicationDatabase(url=url))
    rotation, conversion = audit_rows(url)
    assert rotation[:2] == ("rotate_event_partitions", "job_failure")
    assert "convert_event_tables" in str(rotation[2]["error"])
    assert str(rotation[2]["step"]).startswith("event_partitions__")
    assert "user_behavior_events" in str(conversion[2]["error"])
    assert isinstance(conversion[2]["duration_ms"], int)


def test_checks_find_what_is_wrong(make_application_db: MakeApplicationDb) -> None:
    table = EVENT_TABLES[0]
    now = datetime.now(UTC)
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        plain = partition_status(conn, table, now)
    checks = {check.__name__: check for check, _ in CHECKS}
    assert not checks["months_ahead_exist"](plain).passed
    assert not checks["nothing_past_retention"](plain).passed
    bad = PartitionStatus(
        table,
        partitioned=True,
        missing_months=("2027-01",),
        expired=("user_behavior_events_2020_01",),
        default_rows=1,
        default_oldest=now,
        default_newest=now,
        exposed=("user_behavior_events_2026_01 anon SELECT",),
        stale_dependents=("user_retention reads event_partitions.user_behavior_events_legacy",),
    )
    for name, check in checks.items():
        assert not check(bad).passed, name
    assert "2 rows" in checks["default_partition_empty"](replace(bad, default_rows=2, default_oldest=None)).description


def test_timeline_is_drawn_for_every_state() -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    month = datetime(2026, 11, 1, tzinfo=UTC)
    held = PartitionInfo("held", month, datetime(2026, 12, 1, tzinfo=UTC), False, "month", 10, 8192)
    before = PartitionInfo("before", None, month, False, "before", 10, 8192)
    legacy = PartitionInfo("legacy", None, None, False, "legacy", 10, 8192)
    default = PartitionInfo("default", None, None, True, "default", 1, 8192)
    for partitions in ((), (held,), (before, held, default), (legacy,)):
        status = PartitionStatus(EVENT_TABLES[0], True, partitions=partitions, first_kept=month, default_rows=1)
        assert png(timeline_figure(status, now)).startswith(b"\x89PNG")


def test_tables_outside_of_public_have_assets_of_their_own() -> None:
    """Names that Dagster would refuse in a step are written so that it takes them."""
    tables = {
        QualifiedName.parse(name): APPLICATION.event_tables[EVENT_TABLES[0].relation]
        for name in ("public.visits", "app.visits", 'app."documentTransaction"', '"Odd Schema"."the visits"')
    }
    application = APPLICATION.model_copy(
        update={"event_table_file": APPLICATION.event_table_file.model_copy(update={"root": tables})}
    )
    definitions = build_definitions(application)
    dg.Definitions.validate_loadable(definitions)
    keys = {
        key.to_user_string()
        for key in definitions.resolve_asset_graph().get_all_asset_keys()
        if key.path[0] == "event_partitions"
    }
    assert keys == {
        "event_partitions/visits",
        "event_partitions/app/visits",
        "event_partitions/app/documentTransaction",
        "event_partitions/Odd_20_Schema/the_20_visits",
    }


def test_what_is_not_declared_has_no_asset_and_no_job() -> None:
    none = APPLICATION.model_copy(
        update={"event_table_file": APPLICATION.event_table_file.model_copy(update={"root": {}})}
    )
    definitions = build_definitions(none)
    names = {job.name for job in definitions.resolve_all_job_defs()}
    assert not names & {"convert_event_tables", "rotate_event_partitions"}
    assert not [k for k in definitions.resolve_asset_graph().get_all_asset_keys() if k.path[0] == "event_partitions"]
