"""What the tests of exports share: two people with rows everywhere, an export and what it should hold."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg import sql

from lifecycle.database import Connection, connect, rows
from lifecycle.person_export.export import PersonExport, export_person
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.people import Person, add_catalogue, add_person

AKI, BEN = Person("aki"), Person("ben")
SHARED = "sess_shared_77"
# Rows of a visit without an account are found by the visit's name alone, which a client typed.
CLAIMED = ("session_replay_events",)
LOG = """
select encode(subject, 'hex'), exported_by, tables, rows, failure, ended_at is not null
  from lifecycle.person_exports order by id
"""

Rows = dict[str, list[dict[str, Any]]]


def two_people(make_application_db: MakeApplicationDb) -> str:
    """A migrated database with two people, rows of theirs in every table, a visit that both share; its URL."""
    made = make_application_db(rows=False, migrated=True)
    with connect(made) as conn:
        add_catalogue(conn)
        add_person(conn, "aki", shared=SHARED)
        add_person(conn, "ben", shared=SHARED)
    return made


def export(
    conn: Connection, person: Person | str, folder: Path, application: Any = APPLICATION, **options: Any
) -> PersonExport:
    key = str(person.account) if isinstance(person, Person) else person
    return export_person(conn, application, key, folder, operator="tester", now=datetime.now(UTC), **options)


def exported(folder: Path) -> Rows:
    """The rows of every JSON file, by table."""
    return {path.stem.split("_", 1)[1]: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


def expected(conn: Connection, person: Person, tables: list[str]) -> Rows:
    """The same rows, asked for one by one without the map: whatever names the person by an id."""
    ids = [
        str(person.account),
        str(person.user),
        *(str(person.id(what)) for what in ("chat", "old_chat", "quiz", "run")),
    ]
    found: Rows = {}
    for table in tables:
        columns = [
            column
            for (column,) in rows(
                conn,
                "select attname::text from pg_attribute where attrelid = to_regclass(%s) and attname ~ '_id$|^id$'"
                " and attnum > 0 and not attisdropped",
                (table,),
            )
        ]
        named = sql.SQL(" or ").join(sql.SQL("t.{}::text = any (%(ids)s)").format(sql.Identifier(c)) for c in columns)
        query = sql.SQL("select to_json(t) from {} t where {}").format(sql.Identifier(*table.split(".")), named)
        found[table] = [row for (row,) in conn.execute(query, {"ids": ids})]
    return found


def ids(found: list[dict[str, Any]]) -> list[str]:
    return sorted(str(row.get("id") or row.get("session_id") or row.get("account_id")) for row in found)
