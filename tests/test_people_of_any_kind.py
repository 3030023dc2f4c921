"""A person is a number with several sign-in users, or a sign-in user and nothing else; requests stand in our table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest

from lifecycle.database import connect, rows, value
from sandbox.application import create_supabase_database, drop_database
from sandbox.server import Server
from tests.conftest import AsRole
from tests.second import call

pytestmark = pytest.mark.one_server

CLUB: Final = """
create table members (id bigint generated always as identity primary key, email text not null unique, name text);
create table logins (member_id bigint not null references members,
                     login uuid not null references auth.users on delete cascade);
create table "order" (id bigserial primary key, member_id bigint references members, remark text);
create table payments (id bigserial primary key, member_id bigint references members, yen int not null);
insert into auth.users (id, email, email_confirmed_at)
select format('00000000-0000-4000-8000-00000000000%s', n)::uuid, format('login%s@example.com', n), now()
  from generate_series(1, 3) n;
insert into members (email, name) values ('aoi@example.com', 'Aoi'), ('ren@example.com', 'Ren');
insert into logins select case n when 3 then 2 else 1 end, format('00000000-0000-4000-8000-00000000000%s', n)::uuid
  from generate_series(1, 3) n;
insert into "order" (member_id, remark)
values (1, 'came with login1@example.com'), (2, 'met login2@example.com'), (2, null);
insert into payments (member_id, yen) values (1, 700), (2, 800);
"""
MEMBERS: Final = """
version: "1"
person:
  table: public.members
  key: id
  sign_in: {table: auth.users, id: id, key: login, still_used: [public.logins, login]}
requests: {deadline: 1 month}
keys:
  login: {search: true, from: [{table: public.logins, by: member_id, key: person, take: login}]}
  email: {form: address, search: true, from: [{table: auth.users, by: id, key: login, take: email}]}
tables:
  public.order: {why: a word of SQL, steps: [{by: member_id, key: person}], redacted: [remark]}
  public.logins: {why: who signs in, steps: [{by: member_id, key: person}]}
  public.members:
    why: payments name the row
    steps: [{by: id, key: person, do: scrub, set: {email: {unique: "*@gone.invalid"}, name: null}}]
"""
PAYMENTS: Final = """  public.payments: {why: the books, exempt: {member_id: the books need the number of who paid}}
"""
USERS: Final = """
create table notes (id uuid primary key default gen_random_uuid(), body text,
                    owner uuid references auth.users on delete cascade);
insert into auth.users (id, email)
select format('00000000-0000-4000-8000-00000000000%s', n)::uuid, format('user%s@example.com', n)
  from generate_series(1, 2) n;
insert into notes (owner, body) select id, 'of ' || email from auth.users;
"""
PEOPLE: Final = """
version: "1"
person: {table: auth.users, key: id, sign_in: {table: auth.users, id: id, key: person}}
requests: {deadline: 1 month}
tables:
  public.notes: {why: what people wrote, steps: [{by: owner, key: person}], redacted: [body]}
"""


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    name = "people"
    drop_database(server, name)
    yield create_supabase_database(server, name)
    drop_database(server, name)


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    (tmp_path / "database.yaml").write_text("managed_schemas: [auth, extensions]\n")
    return tmp_path


def test_a_number_with_several_logins(url: str, declared: Path, as_role: AsRole) -> None:
    def told(words: str, code: int = 0) -> str:
        return call(url, words, code=code, declarations=declared)

    with connect(url) as conn:
        conn.execute(CLUB.encode())
        map_file = declared / "personal_data.yaml"
        map_file.write_text(MEMBERS)
        assert "erasures run `lifecycle migrate`" in told("plan")
        told("migrate")
        # No text stands beside this number, and it is a person's all the same.
        assert "is on no map of personal data (public.payments.member_id" in told("check", 1)
        with as_role(url, "service_role") as back_end:
            assert value(back_end, "select public.request_erasure('1', 'I move')") == 1
        assert "Request 1:" in told("erasure request 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), as_role(url, "authenticated") as stranger:
            stranger.execute("select public.request_erasure('2')")
        assert "nobody has this key" in told("erasure request 9", 1)
        assert "nobody has this key" in told("erasure request somebody", 1)

        assert "left in public.payments.member_id" in told("erasure run", 1)
        map_file.write_text(MEMBERS + PAYMENTS)
        told("migrate")
        assert "agree" in told("check")
        conn.execute("update lifecycle.deletion_jobs set next_attempt_at = now()")
        assert "1 of 1 requests erased and proved" in told("erasure run")

        assert "public.payments.member_id" not in told("erasure receipt 1")
        assert rows(conn, "select email from auth.users") == [("login3@example.com",)]
        assert rows(conn, "select name from members order by id") == [(None,), ("Ren",)]
        assert rows(conn, 'select member_id, remark from "order" order by id') == [(2, "met erased"), (2, None)]
        assert rows(conn, "select member_id, login::text from logins") == [(2, "00000000-0000-4000-8000-000000000003")]
        asked = "select status, reason, completed_at is not null from lifecycle.deletion_requests"
        assert rows(conn, asked) == [("completed", None, True)]
        # Our own requests are the evidence that somebody asked.
        assert "holds 1 receipts" in told("undo erasures", 1)
        conn.execute("delete from lifecycle.erasure_receipts")
        assert "erasures need requests" in told("undo requests", 1)
        told("undo erasures")
        assert "holds 1 requests" in told("undo requests", 1)


def test_a_sign_in_user_and_nothing_else(url: str, declared: Path) -> None:
    with connect(url) as conn:
        conn.execute(USERS.encode())
        (declared / "personal_data.yaml").write_text(PEOPLE)
        call(url, "migrate", declarations=declared)
        assert "agree" in call(url, "check", declarations=declared)
        person = "00000000-0000-4000-8000-000000000001"
        call(url, f"erasure request {person}", declarations=declared)
        assert "1 of 1 requests" in call(url, "erasure run", declarations=declared)
        assert rows(conn, "select body from notes") == [("of user2@example.com",)]
        assert rows(conn, "select email from auth.users") == [("user2@example.com",)]
        # They are gone, so nobody can ask for them again.
        assert "nobody has this key" in call(url, f"erasure request {person}", code=1, declarations=declared)
