"""The way back of every revision: nothing of ours stays, everything of the application's returns."""

import re

import psycopg
import pytest
from alembic import command
from psycopg import sql

from lifecycle.database import value
from lifecycle.migrating.migrate import upgrade
from tests.catalog_snapshot import catalog_snapshot
from tests.conftest import MakeApplicationDb
from tests.migrating import PG_TRGM, downgrade, move, session
from tests.partitioned import MakePartitionedDb

pytest_plugins = ("tests.partitioned_fixtures",)


def settled(lines: set[str]) -> set[str]:
    """PostgreSQL prints a definition with other column aliases once it was read back from print."""
    return {re.sub(r" AS [\w\"?]+", "", line) for line in lines if line.startswith("relation public.data_quality")} | {
        line for line in lines if not line.startswith("relation public.data_quality")
    }


@pytest.mark.parametrize("auto_grant", [True, False])
@pytest.mark.parametrize("search_path", [None, "extensions"])
def test_the_way_back_leaves_the_database_as_it_was(
    make_application_db: MakeApplicationDb, auto_grant: bool, search_path: str | None
) -> None:
    url = make_application_db(rows=False, auto_grant=auto_grant)
    with session(url) as conn:
        if search_path:
            conn.execute(
                sql.SQL("alter database {} set search_path = {}").format(
                    sql.Identifier(conn.info.dbname), sql.Identifier(search_path)
                )
            )
        before = catalog_snapshot(conn)
        upgrade(url)
        downgrade(url)
        after = catalog_snapshot(conn)
        before, after = settled(before), settled(after)
        assert before - after == set()
        assert {line for line in after - before if "alembic_version" not in line} == {
            line for line in after if line.startswith("schema lifecycle ") or line == PG_TRGM
        }
        upgrade(url)


def test_a_revision_that_replaces_functions_gives_the_former_ones_back(make_application_db: MakeApplicationDb) -> None:
    """0013 replaces functions of 0011 and 0012, and its way back is a second copy of them."""
    url = make_application_db(rows=False, migrated=True)
    with session(url) as conn:
        downgrade(url, "0012")
        back = catalog_snapshot(conn)
        downgrade(url, "0010")
        move(url, command.upgrade, "0012")
        made = catalog_snapshot(conn)
        assert {line for line in back ^ made if "function lifecycle." in line} == set()
        assert any("function lifecycle.search_rows(" in line for line in made)


def test_the_way_back_refuses_while_partitions_exist(make_partitioned_db: MakePartitionedDb) -> None:
    url = make_partitioned_db()
    downgrade(url, "0001")
    with session(url) as conn:
        before = catalog_snapshot(conn)
        with pytest.raises(psycopg.errors.RaiseException, match="still holds tables"):
            downgrade(url)
        assert catalog_snapshot(conn) == before


def test_an_application_without_maintenance_gets_it_and_loses_it_again(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    with session(url) as conn:
        conn.execute("drop function run_daily_maintenance()")
        upgrade(url)
        assert "rows deleted" in value(conn, "select run_daily_maintenance()")
        downgrade(url)
        assert value(conn, "select to_regprocedure('run_daily_maintenance()')") is None
