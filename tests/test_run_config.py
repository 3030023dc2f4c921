"""What the configuration of a run cannot reach: where runs connect to, and what the environment holds."""

import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import make_url

from orchestration.definitions import build_definitions, defs
from resources.postgres import ApplicationDatabase
from resources.slack import Slack
from resources.variables import TOKEN_VARIABLE, URL_VARIABLE
from tests.conftest import MakeApplicationDb
from tests.outbox import TOKEN

pytestmark = pytest.mark.one_server

PASSWORD = "Tanaka-secret"  # noqa: S105
EVIL = "postgresql://me@evil.example/mine"
REACHED_FOR = [
    ("database", "url", EVIL),
    ("database", "url", {"env": TOKEN_VARIABLE}),
    ("dataframes", "url", EVIL),
    ("cold_storage", "url", EVIL),
    ("cold_storage", "secret_key", {"env": TOKEN_VARIABLE}),
    ("dataframes", "most_rows", 1),
    ("slack", "token", "xoxb-mine"),
    ("slack", "channel", "C0MINE"),
    ("slack", "base_url", "https://evil.example/api/"),
    ("slack", "ui_url", "https://evil.example/"),
    ("timetable", "jobs", []),
    ("io_manager", "base_dir", {"env": URL_VARIABLE}),
]


@pytest.mark.parametrize("job", sorted(job.name for job in defs.resolve_all_job_defs()))
def test_no_run_names_an_address_or_a_secret_of_its_own(job: str) -> None:
    definition = defs.resolve_job_def(job)
    for resource, field, text in REACHED_FOR:
        with pytest.raises(dg.DagsterInvalidConfigError, match=f'unexpected config entry "{field}"'):
            dg.validate_run_config(definition, {"resources": {resource: {"config": {field: text}}}})


@pytest.mark.parametrize("job", sorted(job.name for job in defs.resolve_all_job_defs()))
def test_no_run_reads_a_text_of_the_environment(job: str) -> None:
    """Dagster's errors show no number or truth value that is none, but a step's own error may show a text."""
    types = defs.resolve_job_def(job).run_config_schema.config_type.schema_snapshot.all_config_snaps_by_key
    assert "String" in types
    assert "StringSourceType" not in types


def test_a_name_of_a_table_is_no_way_to_a_variable(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, EVIL)
    config = {"ops": {"choose_tables": {"config": {"tables": [{"env": URL_VARIABLE}]}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match="tables") as refused:
        build_definitions().resolve_job_def("convert_event_tables").execute_in_process(
            instance=instance, run_config=config
        )
    assert EVIL not in str(refused.value)
    assert not instance.get_runs()


def stored(folder: Path) -> Iterator[bytes]:
    """Every file of an instance, and every value of its databases, unpacked where Dagster packs it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.read_bytes()
        if path.suffix != ".db":
            continue
        with sqlite3.connect(path) as conn:
            for (table,) in conn.execute("select name from sqlite_master where type = 'table'").fetchall():
                for row in conn.execute(f'select * from "{table}"'):
                    for value in row:
                        yield from [zlib.decompress(value)] if isinstance(value, bytes) else [str(value).encode()]


def test_no_secret_stands_in_dagsters_storage(make_application_db: MakeApplicationDb, tmp_path: Path) -> None:
    url = make_url(make_application_db(rows=False, migrated=True)).update_query_dict(
        {"passfile": f"/nowhere/{PASSWORD}"}
    )
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        definitions = build_definitions(
            database=ApplicationDatabase(url=url.render_as_string(hide_password=False)),
            slack=Slack(token=TOKEN, channel="C1"),
        )
        assert definitions.resolve_job_def("record_storage").execute_in_process(instance=instance).success
    assert [content for content in stored(tmp_path) if b'"PipelineSnapshot"' in content]
    for secret in (PASSWORD, TOKEN):
        assert not [content for content in stored(tmp_path) if secret.encode() in content]


def test_a_resource_does_not_print_its_secrets() -> None:
    text = f"postgresql://postgres:{PASSWORD}@db.example.com/postgres"
    for resource in (ApplicationDatabase(url=text), Slack(token=TOKEN, channel="C1")):
        assert PASSWORD not in repr(resource) + str(resource)
        assert TOKEN not in repr(resource) + str(resource)
