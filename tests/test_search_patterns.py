"""What the search asks of many rows in its own query is what words_in() finds in one text."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from tests.conftest import MakeApplicationDb
from tests.erasing import ask
from tests.people import Person, add_account, add_catalogue, add_visit

ID = str(UUID(int=0x3AB3E717DE3B4ED0BB1FF01C9F9684D5))
OTHER_ID = str(UUID(int=0x7EA4950F63C94336AC863BD5D1608944))
ADDRESS, OTHER_ADDRESS = "b.taro+x@mail.example", "a.taro+x@mail.example"
# The names begin alike, and as an escape of JSON does.
NAMES = ("bess_1700000001_80166736e", "bess_1700000002_4482216f6")
OTHER_NAME = "bess_1700000003_80166736e"
WORDS = [ID, ADDRESS, *NAMES]
FRAMES = (
    *(
        "{}",
        "x {} y",
        "({})",
        '{{"k": "{}"}}',
        "連絡先{}まで",
        "{}.",
        "{}-",
        "_{}_",
        "x{}",
        "{}x",
        "n{}",
        "/a?s={}&b=1",
    ),
    *(r"\n{}", r"\{}", r"\u0041{}", "%2F{}", "%{}", "100% {}", r"C:\x {}", f"{OTHER_ID} {{}}", f"{{}} {OTHER_ID}"),
    *(f"{OTHER_ADDRESS},{{}}", f"{OTHER_NAME} {{}}", f"{{}}{OTHER_NAME}"),
)
KNOWN = (
    "exists (select from lifecycle.words_in(c.content, lifecycle.session_pattern(null)) w where w.word = any (c.words))"
)
ASKED = "select lifecycle.holds_words('c.content', 'c.words', %s, %s)"


def erase(conn: Connection) -> None:
    """Those who asked, up to the search."""
    conn.execute("select from public.enqueue_deletion_jobs()")
    batch = value(conn, "select lifecycle.claim_deletion_jobs(10)")
    for step in ("collect", "erase"):
        value(conn, "select lifecycle.erasure_step(%s, %s)", (batch, step))


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    with connect(make_application_db(rows=False, migrated=True)) as session:
        yield session


@pytest.mark.parametrize(
    ("shortest", "start"),
    [(None, None), (25, None), (25, "bess_170000000")],
    ids=["no names", "names", "names that begin alike"],
)
def test_a_text_holds_what_is_found_in_it(conn: Connection, shortest: int | None, start: str | None) -> None:
    written = (
        *WORDS,
        OTHER_ID,
        OTHER_ADDRESS,
        OTHER_NAME,
        ADDRESS.replace("@", "%40").replace("+", "%2b"),
        NAMES[0][1:],
        ID[1:],
    )
    texts = [frame.format(form) for frame in FRAMES for w in written for form in (w, w.upper(), w.capitalize())]
    conn.execute('create temp table c (content text collate "C", words text[])')
    conn.execute("insert into c select t, %s from unnest(%s::text[]) t", (WORDS, texts))
    asked = value(conn, ASKED, (shortest, start))
    known = KNOWN if shortest is None else KNOWN.replace("null", str(shortest))
    compared = rows(conn, sql.SQL(f"select c.content, coalesce({asked}, false), {known} from c").as_string(conn))
    assert [text for text, held, found in compared if held != found] == []
    assert 100 < sum(found for _text, _held, found in compared) < len(texts) - 100


@pytest.mark.parametrize(
    ("visits", "start"),
    [
        (("sess_1700000000001_80166736e", "sess_1700000000002_4482216f6"), "sess_170000000000"),
        (("sess_1700000000001_80166736e", "4482216f-0000-4000-8000-80166736eabc"), "sess_1700000000001_80166736e"),
    ],
    ids=["names", "one is an id"],
)
def test_a_batch_knows_what_its_session_names_begin_with(
    conn: Connection, visits: tuple[str, str], start: str | None
) -> None:
    add_catalogue(conn)
    for name, visit in zip(("taro", "ben"), visits, strict=True):
        person = Person(name)
        add_account(conn, person)
        add_visit(conn, person, visit)
        ask(conn, person)
    erase(conn)
    batch = value(conn, "select batch_id from lifecycle.deletion_jobs limit 1")
    assert rows(conn, "select session_length, session_start from lifecycle.needles_of(%s)", (batch,)) == [(28, start)]


@pytest.mark.parametrize(
    ("one", "other", "start"),
    [
        ("sess_1", "sess_2", "sess_"),
        ("sess", "sess_2", "sess"),
        ("abc", "abd", None),
        ("ab", "ab", None),
        ("a", None, None),
    ],
)
def test_what_two_texts_begin_with(conn: Connection, one: str, other: str | None, start: str | None) -> None:
    assert value(conn, "select lifecycle.common_start(%s, %s)", (one, other)) == start


def test_triggers_are_not_planned_anew_for_each_row(conn: Connection) -> None:
    add_catalogue(conn)
    taro = Person("taro")
    add_account(conn, taro)
    add_visit(conn, taro, taro.visit)
    conn.execute("create table public.seen (mode text)")
    conn.execute(
        "create function public.see() returns trigger language plpgsql as $$ begin"
        " insert into public.seen values (current_setting('plan_cache_mode')); return null; end $$"
    )
    conn.execute("create trigger see after update on public.accounts for each row execute function public.see()")
    ask(conn, taro)
    erase(conn)
    assert rows(conn, "select distinct mode from public.seen") == [("auto",)]
