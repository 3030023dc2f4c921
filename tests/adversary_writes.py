"""What an adversary writes: the people, what texts and keys may hold of them, and rows of any table made of that."""

from typing import Any
from uuid import UUID, uuid5

from hypothesis import strategies as st

from tests.adversary_oracle import PARENTS
from tests.people import ACTIVITY, CONFIRMED, NAMES, Person, browser_session

# Name, type, whether it must be given, a word of its enum.
Column = tuple[str, str, bool, str | None]
Made = dict[tuple[str, str], list[UUID]]

VICTIMS = (Person("victim"), Person("dora"))
# Shares a visit with dora, and never asks.
STAYS = Person("stays")
ADVERSARIES = tuple(Person(f"mallory{number}") for number in range(3))
SHARED = browser_session("shared")
# Of a visit in which nobody was signed in, of a booking in another system, of an activity that is gone.
ANONYMOUS, ELSEWHERE, GONE = browser_session("anonymous"), uuid5(NAMES, "elsewhere"), uuid5(NAMES, "gone")
PEOPLE = (*VICTIMS, STAYS, *ADVERSARIES)
THINGS = ("account", "user", "chat", "quiz", "run", "draft", "gift", "booking", "guest", "result", "booking/voucher")
IDS = st.sampled_from(
    [
        *(person.id(thing) for person in PEOPLE for thing in THINGS),
        ACTIVITY,
        ELSEWHERE,
        GONE,
        UUID(int=0),
        UUID(int=7**40),
    ]
)
EMAILS = [person.email for person in PEOPLE]
WORDS = st.one_of(
    st.sampled_from(EMAILS),
    st.sampled_from([email.upper() for email in EMAILS]),
    st.sampled_from([email.replace("@", "%40") for email in EMAILS]),
    st.sampled_from([email.replace("@", "+tag@") for email in EMAILS]),
    st.sampled_from([*(person.visit for person in PEOPLE), SHARED, ANONYMOUS, "1700000000000-abcdefghi"]),
    IDS.map(str),
    st.sampled_from(
        ["https://", "@", "%", "_", ".*", "(", "\\", "job", "refresh_derived_statistics", "erased", "茶", "a", ""]
    ),
)
PLACES = [
    "{}",
    "see {}.",
    "({})",
    "連絡先{}まで",
    "x{}",
    "{}0",
    "https://a.example/?to={}&b=1",
    "a\n{}\t\x01",
    "{} {}",
    "-{}-",
]
TEXTS = st.tuples(st.sampled_from(PLACES), WORDS).map(lambda parts: parts[0].replace("{}", parts[1]))
# Of the columns of a table, by type, what somebody may write into them.
COLUMNS = """
select a.attname::text, t.typname::text, a.attnotnull and not a.atthasdef,
       (select min(e.enumlabel)::text from pg_enum e where e.enumtypid = t.oid)
  from pg_attribute a join pg_type t on t.oid = a.atttypid
 where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum
"""
# What browsers may reach at all: the application's policies decide, row by row.
TABLES = (
    *("user_behavior_events", "business_metrics_events", "session_replay_events", "search_queries"),
    *("chat_sessions", "chat_messages", "chat_session_summaries", "quiz_sessions", "quiz_answers", "quiz_results"),
    *("recommendation_runs", "recommendation_items", "generated_activities", "generated_activity_saves"),
    *("activity_interactions", "form_submissions", "reviews", "account_profiles", "account_metadata"),
    *("consent_history", "data_deletion_requests", "accounts", "account_linkages", "vendor_members", "vouchers"),
    *("audit_events", "activities", "quiz_forms", "articles"),
)
# What the application's server writes for whoever calls it: into the name of the caller's account, but for trackers,
# whose account is a cookie's.
SERVED = TABLES[:20]
TRACKERS = TABLES[:4]
# Columns that the application's server fills itself.
FILLED = {
    "role": "user",
    "rating": 3,
    "rank": 1,
    "source": "chat",
    "entity_type": "thing",
    "status": None,
    "actions": [],
}


def drawn_row(
    data: st.DataObject, table: str, person: Person, columns: list[Column], made: Made, number: int
) -> dict[str, Any]:
    """A row of this table: what must be given, and some of the rest. `made` are ids of rows that were taken before, by
    person and table; `number` tells one row from the next.
    """
    found: dict[str, Any] = {}
    others = [other.account for other in PEOPLE]
    for name, kind, required, label in columns:
        wanted = required or name in ("id", "account_id", "session_id") or data.draw(st.integers(0, 3)) == 0
        if not wanted or name in ("status", "created_at"):
            continue
        elif name in FILLED:
            found[name] = FILLED[name]
        elif (table, name) == ("audit_events", "event_type"):
            found[name] = "seen"
        elif name in ("account_id", "performed_by"):
            found[name] = data.draw(st.sampled_from(others)) if data.draw(st.integers(0, 4)) == 0 else person.account
        elif kind == "uuid":
            taken = made.get((person.name, PARENTS.get((table, name), "")), [])
            ids = st.sampled_from(taken) if bool(taken) and data.draw(st.booleans()) else IDS
            found[name] = data.draw(ids)
        elif kind in ("text", "varchar"):
            found[name] = data.draw(TEXTS)
        elif kind in ("json", "jsonb"):
            word = data.draw(TEXTS)
            found[name] = {word: [word, {"n": 1}], "timeOnPage": 3}
        elif kind == "_text":
            found[name] = (data.draw(TEXTS),)
        elif label is not None:
            found[name] = label
        elif kind in ("int4", "int8"):
            found[name] = 7 + number
        elif kind in ("timestamptz", "timestamp"):
            found[name] = CONFIRMED if data.draw(st.booleans()) else "now"
        elif kind == "bool":
            found[name] = True
    if "id" in found and data.draw(st.booleans()):
        found["id"] = uuid5(NAMES, f"written/{number + 1}")
    return found
