"""`dg launch --job NAME`: every job runs by hand without arguments."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from lifecycle.migrating.migrate import upgrade
from orchestration.conversion import JOB as CONVERT
from orchestration.definitions import defs
from orchestration.demo.services import PROJECT
from resources.variables import COLD_URL_VARIABLE, URL_VARIABLE
from sandbox.server import SUPERUSER, Server
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

DAGSTER = "dagster_of_launches"
# Only conversion has to come before others, such as rotation.
JOBS = sorted(
    (job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")),
    key=lambda name: (name != CONVERT, name),
)


@pytest.mark.parametrize("name", JOBS)
def test_no_job_needs_configuration_or_a_partition(name: str) -> None:
    job = defs.resolve_job_def(name)
    assert job.partitions_def is None
    assert not [key for key in job.asset_layer.executable_asset_keys if job.asset_layer.get(key).partitions_def]
    dg.validate_run_config(job, {})


@pytest.mark.one_server
@pytest.mark.every_version
@pytest.mark.timeout(1800)
def test_dg_launches_every_job(server: Server, make_application_db: MakeApplicationDb, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(DAGSTER)))
    url = server.url(DAGSTER, user=SUPERUSER, driver="psycopg2")
    environment = os.environ | {
        URL_VARIABLE: make_application_db(migrated=True),
        "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_PG_URL": url,
        "DAGSTER_TELEMETRY_DISABLED": "1",
        COLD_URL_VARIABLE: (tmp_path / "cold").as_uri(),
    }
    failed = {}
    for name in JOBS:
        launched = subprocess.run(
            [Path(sys.executable).with_name("dg"), "launch", "--job", name],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if launched.returncode:
            failed[name] = launched.stdout[-2000:] + launched.stderr[-2000:]
        if name == CONVERT:
            # Views see cold months once their table is partitioned.
            upgrade(environment[URL_VARIABLE], APPLICATION)
    assert failed == {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DAGSTER_PG_URL", url)
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            ended = {run.job_name: run.status for run in instance.get_runs()}
    assert ended == dict.fromkeys(JOBS, dg.DagsterRunStatus.SUCCESS)
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(DAGSTER)))
