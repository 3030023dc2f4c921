"""personal_data.yaml: the person, the requests, and what would become of each table's rows. All of it is proposed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lifecycle.database import Connection, rows
from lifecycle.declarations.personal_data import PERSON
from lifecycle.drafting.entry import Entry, Remark
from lifecycle.drafting.people import SIGN_IN_ID, Person, find_person
from lifecycle.drafting.requests import requests_of
from lifecycle.drafting.survey import SIGN_INS, Relation, Survey, words
from lifecycle.drafting.ways import SIGN_IN, Ways, children_first, is_needed, ways_from
from lifecycle.erasures.check import COLUMNS, FREE_FORM, OURS, TYPES
from lifecycle.names import QualifiedName

FILE: Final = "personal_data"
ABOUT: Final = (
    "Who a person is, where their data stands, and what becomes of it when they ask to be erased. Nothing of it is in "
    "force until the lines down to `tables` are; every step deletes or changes rows then, so read each of them. A "
    "column that nobody names is searched after each erasure, and a find in it fails the request."
)
EMAIL: Final = "email"
CONFIRMED: Final = """
select count(*) = 2 from pg_attribute
 where attrelid = to_regclass('auth.users') and attname in ('email', 'email_confirmed_at') and not attisdropped
"""
# Columns that say who somebody is, by the words of their names.
PERSONAL: Final = (
    {"email"}, {"mail"}, {"phone"}, {"mobile"}, {"address"}, {"street"}, {"birthday"}, {"birth"}, {"dob"}, {"ip"},
    {"useragent"}, {"user", "agent"}, {"first", "name"}, {"last", "name"}, {"full", "name"}, {"firstname"},
    {"lastname"}, {"fullname"}, {"display", "name"}, {"username"}, {"avatar"}, {"gender"}, {"passport"}, {"iban"},
    {"latitude"}, {"longitude"}, {"ssn"}, {"nickname"},
)  # fmt: skip


def personal_data(conn: Connection, found: Survey) -> Iterator[Entry | Remark]:
    """Entries for the whole file, none in force; changes nothing."""
    person = find_person(found)
    if person is None:
        yield Remark(FILE, "", "No table of users, accounts or profiles was found, and nobody signs in here.")
        return
    ways = ways_from(found, person)
    yield Entry(FILE, "", "version", "draft", note="named in each receipt: change it with the map")
    yield _person(found, person)
    requests, remarks = requests_of(conn, found, person)
    yield Entry(FILE, "", "requests", requests, remarks)
    for kind, key in ways.keys.items():
        yield Entry(FILE, "keys", kind, key)
    signs_in = SIGN_IN if SIGN_IN in ways.keys else PERSON if person.table == SIGN_INS else None
    if signs_in and rows(conn, CONFIRMED)[0][0]:
        source = {
            "table": str(SIGN_INS),
            "by": SIGN_IN_ID,
            "key": signs_in,
            "take": EMAIL,
            "given": "email_confirmed_at",
        }
        yield Entry(FILE, "keys", EMAIL, {"form": "address", "search": True, "from": [source]})
    yield from _tables(conn, found, person, ways, requests.get("table"))


def _person(found: Survey, person: Person) -> Entry:
    value: dict[str, Any] = {"table": str(person.table), "key": person.key}
    if person.sign_in is not None:
        used = [str(person.sign_in.table), person.sign_in.column]
        value["sign_in"] = {"table": str(SIGN_INS), "id": SIGN_IN_ID, "key": SIGN_IN, "still_used": used}
    elif person.table == SIGN_INS:
        value["sign_in"] = {"table": str(SIGN_INS), "id": SIGN_IN_ID, "key": PERSON}
    table = found.relations.get(person.table)
    remarks = []
    if person.others:
        remarks.append(f"Likeliest of {', '.join(map(str, (person.table, *person.others)))}.")
    if table is not None and table.column("status"):
        remarks.append("A row that stays gets a tombstone, such as {column: status, value: deleted}; without, it goes.")
    return Entry(FILE, "", "person", value, tuple(remarks))


def _tables(
    conn: Connection, found: Survey, person: Person, ways: Ways, asked_in: str | None
) -> Iterator[Entry | Remark]:
    columns: dict[QualifiedName, list[tuple[str, str]]] = defaultdict(list)
    for schema, name, column, type_name, _ in rows(conn, COLUMNS, ([*OURS, *found.managed], TYPES, TYPES)):
        if (table := QualifiedName(schema, name)) in found.relations:
            columns[table].append((column, type_name))
    requests = None if asked_in is None else QualifiedName.parse(asked_in)
    leading = {name for name in (*ways.steps, *ways.kept) if name != requests}
    for name in children_first(found, dict.fromkeys(leading)):
        yield _led_to(found.relations[name], columns[name], ways)
    if requests is not None:
        yield _requests(found.relations[requests], columns[requests], ways)
    if person.table in found.relations:
        yield _person_table(found.relations[person.table], columns[person.table], person)
    rest = [name for name in columns if name not in leading and name not in (requests, person.table)]
    yield from (_not_led_to(found.relations[name], columns[name]) for name in sorted(rest))


def _led_to(table: Relation, columns: Sequence[tuple[str, str]], ways: Ways) -> Entry:
    steps = ways.steps.get(table.name, [])
    value: dict[str, Any] = {"why": "proposed from its foreign keys; say what it holds"}
    remarks = []
    if guessed := ways.guessed.get(table.name, ()):
        value["why"] = "proposed by the name of a column; say what it holds"
        remarks.append(f"{table.name}: no foreign key says that {', '.join(guessed)} names a person.")
    if kept := ways.kept.get(table.name, ()):
        remarks.append(f"{table.name}: {', '.join(kept)} may not be null. Let the row stay, beside a tombstone, or go.")
    stays = bool(kept) or any(step.get("do") == "scrub" for step in steps)
    for step in steps if all(step.get("do") == "scrub" for step in steps) else ():
        step["set"] |= {name: None for name in _personal(table) if not is_needed(table, name)}
    value |= {"steps": steps} if steps else {}
    value |= {"exempt": dict.fromkeys(kept, "says who did it, in a row that is not theirs alone")} if kept else {}
    return Entry(FILE, "tables", str(table.name), value | _others(columns, steps, kept, stays=stays), tuple(remarks))


def _others(
    columns: Sequence[tuple[str, str]], steps: Sequence[Mapping[str, Any]], kept: Sequence[str] = (), *, stays: bool
) -> dict[str, Any]:
    """What stands for the columns of rows that stay: others' texts, and what can name nobody any more."""
    leading = {step["by"] for step in steps if step.get("do") != "scrub"}
    named = {*kept, *(column for step in steps for column in step.get("set", ()))}
    rest = [(name, kind) for name, kind in columns if name not in named]
    typed = [name for name, kind in rest if kind in FREE_FORM and name not in leading]
    value: dict[str, Any] = {"redacted": typed} if typed else {}
    if stays:
        there = {name for name, _ in columns}
        clean = [name for name, kind in rest if kind not in FREE_FORM or name in leading]
        clean += sorted(leading - there)
        value |= {"clean": clean} if clean else {}
    return value


def _requests(table: Relation, columns: Sequence[tuple[str, str]], ways: Ways) -> Entry:
    """Evidence that stays, with words of the person taken out."""
    by = [step["by"] for step in ways.steps.get(table.name, ())]
    typed = [name for name, kind in columns if kind in FREE_FORM and name not in by]
    value: dict[str, Any] = {"why": "evidence of the request; deleting the person's row would take it along"}
    if by:
        value["exempt"] = dict.fromkeys(by, "evidence of the request names whose it was")
    clean = [name for name, kind in columns if kind not in FREE_FORM and name not in by]
    value |= {"redacted": typed} if typed else {}
    value |= {"clean": clean} if clean else {}
    return Entry(FILE, "tables", str(table.name), value)


def _person_table(table: Relation, columns: Sequence[tuple[str, str]], person: Person) -> Entry:
    steps = [{"by": person.key, "key": "person"}]
    value = {"why": "the person's own row goes last", "steps": steps} | _others(columns, steps, stays=False)
    return Entry(FILE, "tables", str(table.name), value)


def _not_led_to(table: Relation, columns: Sequence[tuple[str, str]]) -> Entry:
    """Nothing leads there: what could name somebody is searched and redacted, the rest is said to be clean."""
    if personal := _personal(table):
        value = {"why": "nothing leads from here to a person but others may have typed one"}
        typed = [name for name, kind in columns if kind in FREE_FORM]
        clean = [name for name, kind in columns if kind not in FREE_FORM]
        lists = ({"redacted": typed} if typed else {}) | ({"clean": clean} if clean else {})
        remark = f"Looks personal, and nothing leads there: {', '.join(personal)}."
        return Entry(FILE, "tables", str(table.name), value | lists, (remark,))
    value = {"why": "nothing leads from here to a person"}
    return Entry(FILE, "tables", str(table.name), value | {"clean": [name for name, _ in columns]})


def _personal(table: Relation) -> list[str]:
    return [
        c.name for c in table.columns if any(meant <= set(words(c.name)) for meant in PERSONAL) and not _is_flag(c.type)
    ]


def _is_flag(type_name: str) -> bool:
    return type_name == "boolean" or type_name.startswith("timestamp")
