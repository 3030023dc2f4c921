"""What is deleted from Dagster's own storage on PostgreSQL, what stays, and what is stored there at all."""

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from dagster import DagsterInstance
from psycopg import sql
from sqlalchemy import make_url

from assets.stored_once import stored_once
from lifecycle.declarations.operations import Operations
from orchestration.definitions import build_definitions
from orchestration.demo.services import PROJECT
from resources import dagster_storage
from resources.dagster_private import FreshnessState, FreshnessStateChange
from resources.dagster_storage import TICK_LOGS_KEPT, Ours, Pruned, prune
from resources.signs_of_life import PREFIX, give_sign, last_signs
from sandbox.server import SUPERUSER, Server

pytestmark = pytest.mark.one_server

QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
KEEP = timedelta(days=30)
AN_ASSET = dg.AssetKey("an_asset")
A_CHECK = dg.AssetCheckKey(AN_ASSET, "holds")


@dg.asset(check_specs=[dg.AssetCheckSpec("holds", asset=AN_ASSET)])
def an_asset() -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    yield dg.MaterializeResult(metadata={"rows": 3})
    yield dg.AssetCheckResult(passed=True, check_name="holds")


@dg.op
def says() -> int:
    return 1


@dg.op
def hears(_number: int) -> None:
    """What `says` said lies in a file."""


@dg.job
def passes_on() -> None:
    hears(says())


makes = dg.define_asset_job("makes", [an_asset])
SMALL = dg.Definitions(
    assets=[an_asset],
    jobs=[makes, passes_on],
    executor=dg.in_process_executor,
    resources={"io_manager": dg.FilesystemIOManager()},
)
OURS = Ours(jobs={"makes", "passes_on"})


@pytest.fixture(scope="module")
def storage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DagsterInstance, str]]:
    """Dagster's instance with the project's settings, on a database of its own, and the database's URL."""
    home = tmp_path_factory.mktemp("dagster_home")
    (home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute("create database dagster_storage")
        with pytest.MonkeyPatch.context() as environment:
            url = server.url("dagster_storage", user=SUPERUSER, driver="psycopg2")
            environment.setenv("DAGSTER_PG_URL", url)
            with dg.DagsterInstance.from_config(str(home)) as instance:
                yield instance, make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        conn.execute("drop database dagster_storage with (force)")


@pytest.fixture
def instance(storage: tuple[DagsterInstance, str]) -> DagsterInstance:
    """Without a run."""
    storage[0].wipe()
    with psycopg.connect(storage[1]) as conn:
        conn.execute("delete from kvs")
    return storage[0]


@pytest.fixture
def conn(storage: tuple[DagsterInstance, str]) -> Iterator[psycopg.Connection]:
    with psycopg.connect(storage[1], autocommit=True) as opened:
        yield opened


def run(instance: DagsterInstance, job: str) -> str:
    return SMALL.resolve_job_def(job).execute_in_process(instance=instance, run_config=QUIET).run_id


def failed(instance: DagsterInstance, job: str) -> str:
    """A run that failed before its first step."""
    made = instance.create_run_for_job(SMALL.resolve_job_def(job))
    instance.report_run_failed(made)
    return made.run_id


def aged(conn: psycopg.Connection, run_ids: Sequence[str], days: float) -> None:
    """As if they had ended so many days ago."""
    conn.execute(
        "update runs set update_timestamp = update_timestamp - %s where run_id = any(%s)",
        (timedelta(days=days), list(run_ids)),
    )


def left(conn: psycopg.Connection, table: str, run_id: str) -> int:
    query = sql.SQL("select count(*) from {} where run_id = %s").format(sql.Identifier(table))
    return int(conn.execute(query, (run_id,)).fetchall()[0][0])


def test_what_ended_long_ago_goes_with_all_that_was_stored_for_it(
    instance: DagsterInstance, conn: psycopg.Connection
) -> None:
    old, young, newest = (run(instance, "makes") for _ in range(3))
    passed, _ = run(instance, "passes_on"), run(instance, "passes_on")
    aged(conn, [old, passed], 31)
    aged(conn, [young], 29)
    files = Path(instance.storage_directory())
    assert (files / passed / "says" / "result").is_file()
    assert list((files / old / "compute_logs").iterdir())
    events = left(conn, "event_logs", old) + left(conn, "event_logs", passed)
    assert left(conn, "asset_check_executions", old) == 1

    assert prune(instance, OURS, KEEP) == Pruned(runs=2, events=events, check_evaluations=1)
    for run_id in (old, passed):
        for table in ("runs", "run_tags", "event_logs", "asset_check_executions"):
            assert left(conn, table, run_id) == 0, table
        assert not (files / run_id).exists()
    tags = "select count(*) from asset_event_tags t where not exists (select from event_logs e where e.id = t.event_id)"
    assert conn.execute(tags).fetchall() == [(0,)]
    assert left(conn, "runs", young) == left(conn, "runs", newest) == 1
    assert prune(instance, OURS, KEEP) == Pruned()


def test_the_last_run_of_everything_stays_however_old(instance: DagsterInstance, conn: psycopg.Connection) -> None:
    ended = [run(instance, "makes") for _ in range(3)] + [run(instance, "passes_on")]
    # The newest run of the asset's job did not make the asset, the newest evaluation came before its newest run.
    ended_early = failed(instance, "makes")
    aged(conn, [*ended, ended_early], 400)
    assert prune(instance, OURS, KEEP).runs == 2
    assert {record.dagster_run.run_id for record in instance.get_run_records()} == {*ended[2:], ended_early}
    # As the catalogue of the UI reads it: the last one, and its place in the history.
    event = instance.get_latest_materialization_event(AN_ASSET)
    assert event is not None
    assert event.run_id == ended[2]
    history = instance.fetch_materializations(AN_ASSET, limit=10).records
    assert [record.run_id for record in history] == [ended[2]]
    (summary,) = instance.event_log_storage.get_asset_check_summary_records([A_CHECK]).values()
    assert summary.last_completed_check_execution_record is not None
    assert summary.last_completed_check_execution_record.run_id == ended[2]


def test_runs_at_work_and_of_others_are_left_alone(instance: DagsterInstance, conn: psycopg.Connection) -> None:
    at_work = instance.create_run_for_job(SMALL.resolve_job_def("makes")).run_id
    others = [failed(instance, "passes_on") for _ in range(3)]
    made = [failed(instance, "makes") for _ in range(2)]
    aged(conn, [at_work, *others, *made], 400)
    ours = Ours(jobs={"makes"})
    assert prune(instance, ours, KEEP).runs == 1
    assert {record.dagster_run.run_id for record in instance.get_run_records()} == {at_work, *others, made[1]}


def test_runs_are_ours_by_label_and_those_of_the_command_line_by_job() -> None:
    class Origin:
        """What is asked of a run's origin."""

        repository_origin: Any = None

        def __init__(self, label: str) -> None:
            self.repository_origin = self
            self.get_label = lambda: label

    class Run:
        """What is asked of a run."""

        def __init__(self, job_name: str, label: str | None) -> None:
            self.job_name = job_name
            self.remote_job_origin = Origin(label) if label else None

    def has(ours: Ours, job_name: str, label: str | None) -> bool:
        run: Any = Run(job_name, label)
        return ours.has(run)

    labelled, by_hand = Ours({"makes"}, "here@lifecycle"), Ours({"makes"})
    assert has(labelled, "makes", "here@lifecycle")
    assert has(labelled, "__ASSET_JOB", "here@lifecycle")
    assert not has(labelled, "makes", "there@other")
    assert not has(by_hand, "makes", "there@other")
    assert has(labelled, "makes", None)
    assert has(by_hand, "makes", None)
    assert not has(by_hand, "another", None)


def test_a_batch_at_a_time_until_the_time_is_up(
    instance: DagsterInstance, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [failed(instance, "passes_on") for _ in range(6)]
    aged(conn, runs, 31)
    sizes, moments = [], iter([0.0, 1.0, 2.0, 99.0, 99.0])
    real = dagster_storage.delete_runs

    def counted(where: DagsterInstance, run_ids: Sequence[str]) -> Pruned:
        sizes.append(len(run_ids))
        return real(where, run_ids)

    monkeypatch.setattr(dagster_storage, "delete_runs", counted)
    pruned = prune(instance, OURS, KEEP, batch=2, most_seconds=50, clock=lambda: next(moments))
    assert (pruned.runs, pruned.runs_left, sizes) == (4, 1, [2, 2])
    assert prune(instance, OURS, KEEP, batch=3).runs == 1
    assert [record.dagster_run.run_id for record in instance.get_run_records()] == [runs[-1]]


def test_interrupted_it_leaves_nothing_that_is_not_found_again(
    instance: DagsterInstance, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = failed(instance, "passes_on"), failed(instance, "passes_on")
    aged(conn, [old], 31)
    with monkeypatch.context() as broken:
        broken.setattr(instance.run_storage, "delete_run", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prune(instance, OURS, KEEP)
    assert left(conn, "runs", old) == 1
    assert prune(instance, OURS, KEEP).runs == 1
    assert left(conn, "runs", old) == left(conn, "event_logs", old) == 0


def test_signs_of_life_end_with_their_runs(instance: DagsterInstance, conn: psycopg.Connection) -> None:
    ended = failed(instance, "passes_on")
    at_work = instance.create_run_for_job(SMALL.resolve_job_def("passes_on")).run_id
    for run_id in (ended, at_work, "pruned-long-ago"):
        give_sign(instance, run_id)
    conn.execute("insert into kvs (key, value) values ('lifecycleXsign_of_life/x', 'not ours')")
    assert prune(instance, OURS, KEEP).signs_of_life == 2
    assert list(last_signs(instance, [ended, at_work, "pruned-long-ago"])) == [at_work]
    kept = conn.execute("select count(*) from kvs where not starts_with(key, %s)", (PREFIX,)).fetchall()
    assert kept == [(1,)]


def test_logs_of_ticks_end_and_those_of_runs_end_with_their_run(instance: DagsterInstance) -> None:
    kept = run(instance, "passes_on")
    files = Path(instance.storage_directory())
    logs = [files / "__repository__" / "notifications" / f"{tick}.err" for tick in (1, 2)]
    for log in logs:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("{}\n")
    old = (datetime.now(UTC) - TICK_LOGS_KEPT - timedelta(minutes=1)).timestamp()
    for log in (logs[0], *(files / kept / "compute_logs").iterdir()):
        os.utime(log, (old, old))
    assert prune(instance, OURS, KEEP).tick_logs == 1
    assert [log.exists() for log in logs] == [False, True]
    assert list((files / kept / "compute_logs").glob("*.err"))


def test_the_last_change_of_freshness_stays(instance: DagsterInstance) -> None:
    for state in (FreshnessState.PASS, FreshnessState.FAIL, FreshnessState.PASS):
        change = FreshnessStateChange(
            key=AN_ASSET, new_state=state, previous_state=FreshnessState.UNKNOWN, state_change_timestamp=1.0
        )
        instance.report_runless_asset_event(change)
    assert prune(instance, OURS, KEEP).freshness_changes == 0
    assert prune(instance, OURS, KEEP, now=datetime.now(UTC) + timedelta(days=31)).freshness_changes == 2
    (state_record,) = instance.get_freshness_state_records([AN_ASSET]).values()
    assert state_record.freshness_state is FreshnessState.PASS


@pytest.mark.every_version
def test_the_job_prunes_what_is_declared_and_says_how_much(instance: DagsterInstance, conn: psycopg.Connection) -> None:
    job = build_definitions().resolve_job_def("prune_dagster_storage")
    first = job.execute_in_process(instance=instance, run_config=QUIET)
    job.execute_in_process(instance=instance, run_config=QUIET)
    aged(conn, [first.run_id], 31)
    third = job.execute_in_process(instance=instance, run_config=QUIET)
    (made,) = third.asset_materializations_for_node("lifecycle__dagster_storage")
    told: dict[str, Any] = {name: entry.value for name, entry in made.metadata.items()}
    assert (told["runs"], told["runs_left"]) == (1, 0)
    assert told["events"] > 5
    assert told["bytes"] > 1_000_000
    assert left(conn, "event_logs", first.run_id) == 0


def test_ticks_have_an_end() -> None:
    """Dagster's own default keeps all but the skipped ones of sensors for good."""
    retention = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))["retention"]
    assert retention["schedule"]["purge_after_days"] > 0
    assert set(retention["sensor"]["purge_after_days"]) == {"skipped", "started", "success", "failure"}


def pictured(picture: str) -> dg.AssetsDefinition:
    @dg.asset
    def pictured(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        return stored_once(
            context, dg.MaterializeResult(metadata={"rows": 1, "chart": dg.MetadataValue.md(f"![a chart]({picture})")})
        )

    return pictured


def chart_of(instance: DagsterInstance, picture: str) -> str:
    """What the materialization holds after a run that draws the picture."""
    result = dg.materialize([pictured(picture)], instance=instance, run_config=QUIET)
    (made,) = result.asset_materializations_for_node("pictured")
    assert made.metadata["rows"].value == 1
    return str(made.metadata["chart"].value)


def test_metadata_and_pictures_are_stored_once(instance: DagsterInstance, conn: psycopg.Connection) -> None:
    picture = "data:image/png;base64," + "QUJD" * 50
    assert chart_of(instance, picture) == f"![a chart]({picture})"
    stored = conn.execute("select dagster_event_type from event_logs where event like %s", (f"%{picture}%",)).fetchall()
    assert stored == [("ASSET_MATERIALIZATION",)]


def test_a_picture_that_did_not_change_is_a_link_to_where_it_stands(
    instance: DagsterInstance,
) -> None:
    chart_of(instance, "one")
    event = instance.get_latest_materialization_event(dg.AssetKey("pictured"))
    assert event is not None
    links = [chart_of(instance, "one") for _ in range(2)]
    assert links[0].startswith("[unchanged since ")
    assert f"(/assets/pictured?view=events&asOf={int(event.timestamp * 1000) + 1} " in links[0]
    assert links[1] == links[0]
    assert chart_of(instance, "another") == "![a chart](another)"
    assert chart_of(instance, "one") == "![a chart](one)"


def test_a_link_outlives_no_run_that_it_leads_to(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    chart_of(instance, "one")
    assert chart_of(instance, "one").startswith("[unchanged")
    monkeypatch.setattr("assets.stored_once.LONGEST_LINK", timedelta(0))
    assert chart_of(instance, "one") == "![a chart](one)"


def test_the_age_is_declared_in_days_and_never_too_short() -> None:
    for wrong in ("7 days", "1 month"):
        with pytest.raises(ValueError, match=r"too short|no fixed length"):
            Operations(keep_runs=wrong)
    assert json.loads(Operations(keep_runs="15 days").model_dump_json())["keep_runs"] == "15 days"
