"""pg_dump of an adopted database, restored on another server: nothing is lost, and it goes on from there."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from lifecycle.checking.check import check_declarations
from lifecycle.database import Connection, connect, rows, value
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.convert import convert_table
from sandbox.server import Server
from tests.archived import archive
from tests.catalog_snapshot import catalog_snapshot
from tests.conftest import SERVERS, MakeApplicationDb
from tests.declared import APPLICATION
from tests.dumping import as_owner, commands_with, create_empty, dump, run_page
from tests.kept import refresh, refresh_and_compare
from tests.partitioned import BEHAVIOR

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

KEPT = "select view_name, kept_table from lifecycle.kept_views order by 1"
SUM = "select count(*), coalesce(sum(hashtextextended(x::text, 0)), 0) from {} x"
VIEWS = "select relname::text from pg_class where relkind = 'v'"
PARTITIONS = "select p.name from lifecycle.event_partitions_of('public.user_behavior_events') p order by 1"
# A correction of long ago, which only the log of changed rows tells a refresh.
CORRECTION = """
delete from chat_messages where session_id =
    (select s.id from chat_sessions s join chat_messages m on m.session_id = s.id
      where s.started_at between now() - interval '80 days' and now() - interval '10 days' order by s.id limit 1)
"""


# A server in production has counted further than a new one: each of these has a number of its own.
MANY_TRANSACTIONS = """
create temp table many (i int);
do $$ begin
    for i in 1..30000 loop
        begin insert into many values (i); exception when division_by_zero then null; end;
    end loop;
end $$
"""


@pytest.fixture
def elsewhere(server: Server, tmp_path: Path) -> Iterator[Server]:
    """Another server with Supabase's roles and nothing else."""
    tmp_path.chmod(0o755)
    with Server(tmp_path / "elsewhere", bin_dir=SERVERS[f"pg{server.version}"]) as another:
        yield another


def snapshot(conn: Connection) -> set[str]:
    """What the owner may do by nature is written out in one of the two."""
    return {re.sub(r" acl (\{postgres=\w+/postgres\})?", " acl ", line) for line in catalog_snapshot(conn)}


def figures(conn: Connection) -> dict[str, object]:
    """Rows of every view that answers from a table, of every partition, of the archive and of its table."""
    named = [f"public.{view}" for view, _ in rows(conn, KEPT)]
    named += [f'event_partitions."{name}"' for (name,) in rows(conn, PARTITIONS)]
    named += ["user_behavior_events", "chat_messages", "chat_messages_archive", "chat_messages_recent"]
    return {name: rows(conn, SUM.format(name)) for name in named}


def test_restored_on_another_server(
    make_application_db: MakeApplicationDb, server: Server, elsewhere: Server, tmp_path: Path, now: datetime
) -> None:
    url = make_application_db(migrated=True)
    convert_table(url, BEHAVIOR, now=now, progress=lambda *_: None)
    # Views see cold months once their table is partitioned.
    upgrade(url, APPLICATION)
    assert archive(url, now).moved > 0
    with connect(url) as conn:
        conn.execute(MANY_TRANSACTIONS)
        refresh(conn)
        before, catalog = figures(conn), snapshot(conn)
        found = check_declarations(conn, APPLICATION)
        assert len(rows(conn, PARTITIONS)) > 20
        assert value(conn, "select count(*) from chat_messages_archive") > 0

    there = create_empty(elsewhere, "restored")
    dump_and_restore = commands_with("everything.sql")
    _, errors = run_page(server, dump_and_restore, tmp_path, PRODUCTION=url, ELSEWHERE=there)
    # Roles of the platform.
    assert all(error.startswith("role ") and error.endswith(" already exists") for error in errors), errors

    with connect(as_owner(there)) as conn:
        assert snapshot(conn) == catalog
        assert figures(conn) == before
        assert check_declarations(conn, APPLICATION) == found
        assert upgrade(as_owner(there), APPLICATION).changes == ()
        # Its transactions are numbered anew: what was noted by number is not taken for seen.
        assert conn.execute(CORRECTION).rowcount > 0
        done = refresh_and_compare(conn)
        assert any(note == "the database was restored on another server" for _, _, note in done.values())
        assert not any("another server" in (note or "") for _, _, note in refresh(conn).values())
    # Nothing of it depends on the moment: two dumps can be compared.
    schema = dump(server, url, "--schema-only")
    assert dump(elsewhere, there, "--schema-only") == schema


def test_the_schema_public_alone_lacks_what_stands_beside_it(
    make_application_db: MakeApplicationDb, server: Server, elsewhere: Server, tmp_path: Path, now: datetime
) -> None:
    url = make_application_db(rows=False, migrated=True)
    convert_table(url, BEHAVIOR, now=now, progress=lambda *_: None)
    # Views see cold months once their table is partitioned.
    upgrade(url, APPLICATION)
    there = create_empty(elsewhere, "public_only")
    ours = commands_with("ours.sql") + 'psql --quiet --file=ours.sql "$ELSEWHERE"\n'
    alone = ours.replace(" --schema=lifecycle --schema=event_partitions --schema=private", "")
    assert alone != ours
    # What the platform makes, and the roles.
    platform = (
        'pg_dumpall --roles-only --no-role-passwords --dbname="$PRODUCTION" | psql --quiet "$ELSEWHERE"\n'
        'pg_dump --schema-only --schema=auth --schema=extensions --extension=pg_trgm "$PRODUCTION" | '
        'psql --quiet "$ELSEWHERE"'
    )
    run_page(server, platform, tmp_path, PRODUCTION=url, ELSEWHERE=there)
    _, errors = run_page(server, alone, tmp_path, PRODUCTION=url, ELSEWHERE=there)
    with connect(as_owner(there)) as conn, connect(url) as adopted:
        kept = {view for view, _ in rows(adopted, KEPT)}
        assert kept
        assert not kept & {name for (name,) in rows(conn, VIEWS)}
        assert value(conn, "select count(*) from pg_inherits") == 0
        asking = "select polname::text from pg_policy where pg_get_expr(polqual, polrelid) like '%%private.%%'"
        assert rows(adopted, asking)
        assert rows(conn, asking) == []
    for missing in ("lifecycle", "private"):
        assert any(f'schema "{missing}" does not exist' in error for error in errors)

    whole = create_empty(elsewhere, "four_schemas")
    run_page(server, platform, tmp_path, PRODUCTION=url, ELSEWHERE=whole)
    _, errors = run_page(server, ours, tmp_path, PRODUCTION=url, ELSEWHERE=whole)
    assert set(errors) <= {'schema "public" already exists'}
    assert upgrade(as_owner(whole), APPLICATION).changes == ()
    with connect(as_owner(whole)) as conn:
        assert kept <= {name for (name,) in rows(conn, VIEWS)}
