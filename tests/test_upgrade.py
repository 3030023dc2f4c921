"""docs/how-to/upgrade.md: to a release that knows more, and back; the next release is built here from this one."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import psycopg
import pytest

from lifecycle.database import connect, value
from lifecycle.release import release
from orchestration.health import application_database
from orchestration.shipped import PROJECT
from sandbox.server import SUPERUSER, Server
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION_FOLDER
from tests.dumping import as_owner, create_empty, run_page
from tests.installed import run
from tests.test_backup import commands

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

NEXT = "99.1.0"
BACK = "after_the_way_back"
REVISION = """\"\"\"Sizes: who measured\"\"\"

from migrations.sql_file import run_sql_file

revision = "review_0099"
down_revision = "review_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")
"""
MEASURED_BY = "alter table lifecycle.storage_history {} column measured_by text"
HAS_COLUMN = """
select count(*) from information_schema.columns
 where table_schema = 'lifecycle' and table_name = 'storage_history' and column_name = 'measured_by'
"""
KEPT_DAYS = "select prosrc ~ 'kept_days constant int := {}' from pg_proc where proname = 'record_storage'"


def replace(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert before in text, f"{file.name}: {before}"
    file.write_text(text.replace(before, after), encoding="utf-8")


def next_release(folder: Path) -> Path:
    """The packages of a wheel whose release has one revision more and another text of a function."""
    tracked = run("git", "ls-files", "-co", "--exclude-standard", cwd=PROJECT).splitlines()
    for name in tracked:
        if (PROJECT / name).is_file() and not name.startswith(("tests/", "benchmarks/", "docs/images/")):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / "source" / name)
    source = folder / "source"
    replace(source / "lifecycle/release.py", f'"{release()}"', f'"{NEXT}"')
    replace(source / "lifecycle/review/review.sql", "kept_days constant int := 400", "kept_days constant int := 500")
    revision = source / "migrations/versions/review_0099"
    revision.with_suffix(".py").write_text(REVISION)
    revision.with_suffix(".sql").write_text(MEASURED_BY.format("add"))
    revision.with_suffix(".downgrade.sql").write_text(MEASURED_BY.format("drop"))
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "packages")
    return folder / "packages"


def lifecycle(packages: Path, url: str, *arguments: str) -> tuple[int, str]:
    """A command of the release in that folder: its exit code, and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", *arguments],
        cwd=packages,
        env=os.environ | {"LIFECYCLE_DATABASE_URL": url, "LIFECYCLE_APPLICATION": str(APPLICATION_FOLDER)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_there_and_back(make_application_db: MakeApplicationDb, server: Server, tmp_path: Path) -> None:
    url, new = make_application_db(rows=False, migrated=True), next_release(tmp_path / "next")
    assert lifecycle(new, url, "--version") == (0, f"lifecycle {NEXT}\n")
    run_page(server, commands("pg_dump"), tmp_path, PRODUCTION=url, DAGSTER=url)

    code, told = lifecycle(new, url, "migrate")
    assert (code, "revision review_0099" in told) == (0, True), told
    assert "Nothing to change" in lifecycle(new, url, "migrate")[1]
    with connect(url) as conn:
        assert value(conn, HAS_COLUMN) == 1
        assert value(conn, KEPT_DAYS.format(500))
    # A forgotten step shows, and the old release touches nothing.
    assert f"was migrated by release {NEXT}" in application_database(url).told
    code, told = lifecycle(PROJECT, url, "migrate")
    assert code == 1
    assert f"migrated by release {NEXT}, and this is {release()}" in " ".join(told.split())
    with connect(url) as conn:
        assert value(conn, KEPT_DAYS.format(500))

    there = create_empty(server, BACK)
    try:
        run_page(server, commands("$ELSEWHERE"), tmp_path, ELSEWHERE=there)
        assert "Nothing to change" in lifecycle(PROJECT, as_owner(there), "migrate")[1]
        assert lifecycle(PROJECT, as_owner(there), "check")[0] == 0
        assert application_database(as_owner(there)).healthy
        with connect(as_owner(there)) as conn:
            assert value(conn, HAS_COLUMN) == 0
            assert value(conn, KEPT_DAYS.format(400))
    finally:
        with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
            conn.execute(f"drop database {BACK} with (force)".encode())
