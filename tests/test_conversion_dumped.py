"""Everything that pg_dump prints about a table with everything on it, before and after: the same but for a list."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import psycopg
import pytest

from lifecycle.database import connect
from lifecycle.partitions.plan import plan_conversion
from sandbox.binaries import available_binaries
from sandbox.server import SUPERUSER, Server
from tests.conftest import SERVERS, MakeApplicationDb
from tests.conversion_load import BEHAVIOUR, FEW_MONTHS, convert, fill, fingerprint, leftovers
from tests.dumped import Entry, named_after_the_whole, pg_dump, plain
from tests.furnished import FURNISH, MORE, PUBLISH

CREATED = "CREATE TABLE public.user_behavior_events ("
CLUSTERED = re.compile(r"\n+ALTER TABLE public\.user_behavior_events CLUSTER ON .*;")
FORCED = re.compile(r"\n+ALTER TABLE public\.user_behavior_events FORCE ROW LEVEL SECURITY;\n")
DEPENDS = re.compile(r"\n+ALTER INDEX .* DEPENDS ON EXTENSION .*;")


def listed(entry: Entry) -> Iterator[Entry]:
    """What becomes of an entry: the differences that docs/reference/partitioned-tables.md lists, and no other."""
    text = plain(entry.text)
    if CREATED in text:
        yield replace(entry, text=re.sub(r"\nWITH \(.*\);", "\nPARTITION BY RANGE (event_timestamp);", text))
        yield replace(entry, text=FORCED.sub("\n", text))
    elif 'ADD CONSTRAINT "The Key" PRIMARY KEY (id)' in text:
        yield replace(entry, text=text.replace("(id)", "(id, event_timestamp)"))
    elif entry.kind == "PUBLICATION" and text.startswith(("CREATE PUBLICATION everything", "CREATE PUBLICATION some")):
        yield replace(entry, text=text.replace("');", "', publish_via_partition_root = true);"))
    elif entry.kind == "INDEX":
        yield replace(entry, text=CLUSTERED.sub("", text))
        # The partition's index goes with its parent's, which has the dependence.
        yield replace(entry, text=DEPENDS.sub("", CLUSTERED.sub("", text)))
    else:
        yield replace(entry, text=text)


@pytest.fixture
def somewhere(server: Server) -> Iterator[None]:
    """A tablespace of that name."""
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as admin:
        admin.execute("set allow_in_place_tablespaces = on")
        admin.execute("create tablespace somewhere location ''")
        admin.execute("grant create on tablespace somewhere to postgres")
        yield
        admin.execute("drop tablespace somewhere")


@pytest.mark.every_version
@pytest.mark.usefixtures("somewhere")
def test_the_dump_is_the_same(make_application_db: MakeApplicationDb, server: Server, now: datetime) -> None:
    folder = SERVERS[f"pg{server.version}"]
    if not (folder / "pg_dump").exists():
        others = [binaries.folder for binaries in available_binaries() if (binaries.folder / "pg_dump").exists()]
        assert others, "no PostgreSQL of this machine has pg_dump beside it: nothing compares dumps"
        pytest.skip(f"this server has no pg_dump; {others} have")
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=100, span=FEW_MONTHS)
    superuser = server.url(url.rsplit("/", 1)[1], user=SUPERUSER)
    with connect(url) as conn, connect(superuser) as admin:
        conn.execute(FURNISH.encode())
        for statement in PUBLISH:
            conn.execute(statement.encode())
        admin.execute(MORE.encode())
        before = pg_dump(folder, superuser)
        assert len([entry for entry in before if "user_behavior_events" in entry.text]) > 70
        content = fingerprint(superuser, BEHAVIOUR)
        told = "\n".join(plan_conversion(conn, BEHAVIOUR, now).warnings)
        assert "CLUSTER without an index fails: user_behavior_events_page_url_idx is not marked any more" in told
        assert "what service_role granted to others will be granted by postgres" in told
        convert(url, BEHAVIOUR, now)
        after = named_after_the_whole(admin, pg_dump(folder, superuser))
    expected = {text for entry in before for text in listed(entry)}
    assert "\n".join(f"{entry.kind} {entry.text}" for entry in sorted(after - expected)) == ""
    assert "\n".join(f"{entry.kind} {entry.text}" for entry in sorted(expected - after)) == ""
    assert fingerprint(superuser, BEHAVIOUR) == content
    assert leftovers(url) == []
