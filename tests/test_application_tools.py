"""The application's own tools: a reset from its migrations, and `lifecycle migrate --dev` after it."""

import psycopg
import pytest
from typer.testing import CliRunner

from lifecycle.checking.check import check_declarations
from lifecycle.database import connect, rows, value
from lifecycle.errors import RefusedError
from lifecycle.migrating.migrate import upgrade
from orchestration.cli.main import app
from resources.variables import URL_VARIABLE
from sandbox.application import apply_december
from tests.catalog_snapshot import catalog_snapshot
from tests.conftest import AsRole, MakeApplicationDb
from tests.declared import APPLICATION
from tests.docs_pages import blocks
from tests.dumping import PAGE
from tests.partitioned import MakePartitionedDb

pytest_plugins = ["tests.partitioned_fixtures"]

# What the application's own tests and migrations may name of ours.
NAMED_BY_THE_APPLICATION = """
select to_regclass('public.chat_messages_archive') is not null, to_regclass('public.chat_messages_recent') is not null,
       to_regrole('ops') is not null, to_regprocedure('public.recommend_activities(uuid, integer)') is not null,
       exists (select from pg_policies where policyname = 'lifecycle: select own rows')
"""
OPENED = """
select exists (select from pg_class c, aclexplode(c.relacl) a
                where c.oid = 'public.reviews'::regclass and a.grantee = to_regrole('ops'))
"""
TRIGGERS = "select tgname::text from pg_trigger where tgname ~ '^lifecycle_(changed|segments)_'"


def definitions(lines: set[str]) -> set[str]:
    """Of a snapshot: the columns, the text of views and functions, and which triggers and constraints there are.

    Grants and policies are declared, and are the same as on an adopted database.
    """
    kept = ("column public.", "constraint ", "enum ", "trigger ", "publication ")
    texts = {
        line.partition(" kind ")[0] + line.partition(" as ")[2] for line in lines if line.startswith("relation pub")
    }
    plain = {line.partition(" acl ")[0] for line in lines if line.startswith(kept)}
    return texts | plain


@pytest.mark.one_server
def test_names_without_work_after_a_reset(make_application_db: MakeApplicationDb, as_role: AsRole) -> None:
    """The application's migrations, then `--dev`."""
    url, twin = make_application_db(rows=False), make_application_db(rows=False)
    assert upgrade(url, APPLICATION, dev=True).changes
    assert upgrade(url, APPLICATION, dev=True).changes == ()
    with connect(url) as conn, connect(twin) as plain:
        assert rows(conn, NAMED_BY_THE_APPLICATION) == [(True,) * 5]
        assert rows(conn, TRIGGERS) == []
        assert value(conn, "select count(*) from lifecycle.kept_views") == 0
        # Nothing of the application's is another thing than without us.
        assert definitions(catalog_snapshot(plain)) <= definitions(catalog_snapshot(conn))
        assert check_declarations(conn, APPLICATION) == ()
        # What the page lets the application's migrations say runs before `--dev` as after it.
        # The role is the server's, so it may be there for both.
        for session in (plain, conn):
            with session.transaction(force_rollback=True):
                for text in blocks(PAGE, "sql"):
                    session.execute(text.encode())
                assert value(session, OPENED)
                assert value(session, "select to_regclass('public.chat_messages_recent')") is None
        conn.execute("insert into accounts default values")
        assert value(conn, "select count(*) from lifecycle.changed_segment_accounts") == 0
    with as_role(url, "anon") as anon, pytest.raises(psycopg.errors.InsufficientPrivilege):
        anon.execute("delete from quiz_forms")


@pytest.mark.one_server
@pytest.mark.every_version
def test_the_next_migrations_and_the_full_state(make_application_db: MakeApplicationDb) -> None:
    """The application's migrations (November), `--dev`, its next ones (December), and at last a plain `migrate`."""
    url, twin = make_application_db(rows=False), make_application_db(rows=False)
    upgrade(url, APPLICATION, dev=True)
    for database in (url, twin):
        apply_december(database)
    with connect(url) as conn, connect(twin) as plain:
        assert definitions(catalog_snapshot(plain)) <= definitions(catalog_snapshot(conn))

    adopted = make_application_db(rows=False, migrated=True, december=True)
    assert any(line.startswith("no longer names only") for line in upgrade(url, APPLICATION).changes)
    assert upgrade(url, APPLICATION).changes == ()
    with connect(url) as conn, connect(adopted) as at_once:
        assert catalog_snapshot(conn) == catalog_snapshot(at_once)


@pytest.mark.one_server
def test_an_adopted_database_is_refused(
    make_application_db: MakeApplicationDb, make_partitioned_db: MakePartitionedDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, partitioned = make_application_db(rows=False, migrated=True), make_partitioned_db()
    with connect(partitioned) as conn:
        conn.execute("truncate lifecycle.kept_views cascade")
    for url, told in ((kept, "answers from a table"), (partitioned, "has partitions")):
        with connect(url) as conn:
            before = catalog_snapshot(conn)
            with pytest.raises(RefusedError, match=f"adopted for good: .* {told}.* `lifecycle migrate` without it"):
                upgrade(url, APPLICATION, dev=True)
            assert catalog_snapshot(conn) == before
    monkeypatch.setenv(URL_VARIABLE, kept)
    result = CliRunner().invoke(app, ["migrate", "--dev"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "adopted for good" in result.stderr
    assert CliRunner().invoke(app, ["migrate", "--dev", "--sql"]).exit_code == 1
