"""Whatever accounts of an adversary write, ask and confirm, in whatever order, while victims go on and workers die:
nobody else loses anything, nobody waits, no receipt says more than is true. tests/adversary_oracle.py says what is
right."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from lifecycle.database import Connection, connect, rows, value
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.adversary_oracle import Leaver, columns_that_name, declared, dump, of, wrongs
from tests.adversary_writes import (
    ADVERSARIES,
    ANONYMOUS,
    COLUMNS,
    ELSEWHERE,
    GONE,
    SERVED,
    SHARED,
    STAYS,
    TABLES,
    TEXTS,
    TRACKERS,
    VICTIMS,
    Column,
    Made,
    drawn_row,
)
from tests.conftest import Templates
from tests.erasing import LEASE_OVER, step
from tests.people import (
    CONFIRMED,
    Person,
    add_booking,
    add_catalogue,
    add_person,
    add_visit,
    insert,
)

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

# What is kept of views is made anew by transactions that see others' end; here all is one. Tests of completeness and
# of workers that are killed have it.
STEPS = ("collect", "erase", "sign_in_users", "search", "conclude")
BASE_TABLES = """
select distinct relation::text from lifecycle.searched_columns() where table_name ~ '^public' order by 1
"""
AGAIN = "update lifecycle.deletion_jobs set next_attempt_at = now()"
NOT_VERIFIED = "select account_key, state, last_error from lifecycle.deletion_jobs where state <> 'verified'"
RECEIPTS = """
select r.id, j.account_key, r.body from lifecycle.erasure_receipts r join lifecycle.deletion_jobs j using (request_id)
 where r.id > %s order by r.id
"""
MUST_BE_WRITTEN = {
    *("anon", "authenticated", "service_role", "insert chat_sessions", "insert quiz_sessions", "insert search_queries"),
    *("insert user_behavior_events", "insert form_submissions", "insert session_replay_events"),
}
# A victim waits for no more than this many runs that came to their end.
MOST_RUNS = 2


class Adversary(RuleBasedStateMachine):
    """One example is one transaction, which is undone."""

    stage: Connection
    columns: dict[str, list[Column]]
    accepted: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.undo = ExitStack()
        self.undo.enter_context(self.stage.transaction(force_rollback=True))
        self.written = 0
        self.leavers: dict[str, Leaver] = {}
        self.waited: Counter[str] = Counter()
        self.job_rows: dict[str, Any] = {}
        self.made: Made = {}

    def teardown(self) -> None:
        self.undo.close()

    # -- who acts

    @contextmanager
    def acting(self, role: str, person: Person | None) -> Iterator[None]:
        """As the API and the application's server come to the database; what it refuses was never written."""
        claims = {"role": role, **({"sub": str(person.user), "email": person.email} if person else {})}
        try:
            with self.stage.transaction():
                self.stage.execute(
                    "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true),"
                    " set_config('row_security', 'on', true)",
                    (role, json.dumps(claims)),
                )
                yield
                self.stage.execute(
                    "select set_config('role', 'none', true), set_config('request.jwt.claims', '', true),"
                    " set_config('row_security', 'off', true)"
                )
        except psycopg.Error as error:
            self.accepted[f"refused: {error.sqlstate}"] += 1
        else:
            self.accepted[role] += 1

    def note(self, person: Person, table: str, row: dict[str, Any]) -> None:
        """It was taken: other rows may refer to it."""
        self.accepted[f"insert {table}"] += 1
        if "id" in row:
            self.made.setdefault((person.name, table), []).append(row["id"])

    def row(self, data: st.DataObject, table: str, person: Person) -> dict[str, Any]:
        """A row that the adversary might write into this table."""
        found = drawn_row(data, table, person, self.columns[table], self.made, self.written)
        self.written += 1
        return found

    # -- what the adversary does

    @initialize()
    def somebody_signs_up(self) -> None:
        self.sign_up(ADVERSARIES[0], ADVERSARIES[0].email, True, VICTIMS[0].email)
        self.sign_up(ADVERSARIES[1], VICTIMS[0].email.upper(), False, VICTIMS[1].email)

    @rule(
        person=st.sampled_from(ADVERSARIES),
        email=st.sampled_from(["", "", "upper", "tag", "padded"]),
        confirmed=st.booleans(),
        other=st.sampled_from([person.email for person in VICTIMS]),
    )
    def signs_up_or_confirms(self, person: Person, email: str, confirmed: bool, other: str) -> None:
        """With an address of its own, or, never confirmed, with somebody's; that stands as pending and in the profile,
        too. An address of its own may be confirmed later."""
        taken = {"upper": other.upper(), "tag": other.replace("@", "+tag@"), "padded": f" {other}"}.get(email)
        self.sign_up(person, taken or person.email, confirmed and taken is None, other)
        self.stage.execute(
            "update auth.users set email_confirmed_at = now() where id = %s and email = %s and %s",
            (person.user, person.email, confirmed),
        )

    def sign_up(self, person: Person, email: str, confirmed: bool, pending: str) -> None:
        if rows(self.stage, "select from accounts where id = %s", (person.account,)):
            return
        insert(self.stage, "accounts", id=person.account)
        with self.acting("postgres", None):
            insert(
                self.stage,
                "auth.users",
                id=person.user,
                email=email,
                email_confirmed_at=CONFIRMED if confirmed else None,
                email_change=pending,
                raw_user_meta_data={"email": pending, "email_verified": True},
            )
            insert(self.stage, "account_linkages", account_id=person.account, supabase_user_id=person.user)

    @rule(
        data=st.data(),
        person=st.sampled_from(ADVERSARIES),
        tables=st.lists(st.sampled_from(TABLES + SERVED), min_size=1, max_size=4),
    )
    def writes_through_the_api(self, data: st.DataObject, person: Person, tables: list[str]) -> None:
        for table in tables:
            row, anonymous = self.row(data, table, person), data.draw(st.integers(0, 3)) == 0
            with self.acting("anon" if anonymous else "authenticated", None if anonymous else person):
                insert(self.stage, table, **row)
                self.note(person, table, row)

    @rule(data=st.data(), person=st.sampled_from(ADVERSARIES), table=st.sampled_from(SERVED))
    def changes_what_the_api_lets_it(self, data: st.DataObject, person: Person, table: str) -> None:
        """Every row that row-level security leaves to it, any column."""
        row = self.row(data, table, person)
        name = data.draw(st.sampled_from(sorted(row)))
        with self.acting("authenticated", person):
            changed = self.stage.execute(
                f'update {table} set "{name}" = (select r."{name}" from jsonb_populate_record(null::{table}, %s) r)',
                (json.dumps({name: _plain(row[name])}),),
            )
            self.accepted[f"update {table}"] += changed.rowcount

    @rule(
        data=st.data(),
        person=st.sampled_from(ADVERSARIES),
        tables=st.lists(st.sampled_from(SERVED), min_size=1, max_size=4),
    )
    def has_the_server_write(self, data: st.DataObject, person: Person, tables: list[str]) -> None:
        for table in tables:
            row = self.row(data, table, person)
            if "account_id" in row and table not in TRACKERS:
                # A guest's form names nobody's account.
                guest = table == "form_submissions" and data.draw(st.booleans())
                row["account_id"] = None if guest else person.account
            with self.acting("service_role", None):
                insert(self.stage, table, **row)
                self.note(person, table, row)

    @rule(data=st.data(), table=st.sampled_from(["activities", "quiz_forms", "audit_events"]))
    def has_others_write_about_it(self, data: st.DataObject, table: str) -> None:
        """A vendor's description, the ledger's subject."""
        row = self.row(data, table, ADVERSARIES[0])
        with self.acting("service_role", None):
            insert(self.stage, table, **row)

    @rule(person=st.sampled_from(ADVERSARIES), times=st.sampled_from([1, 1, 2, 30]), through_api=st.booleans())
    def asks(self, person: Person, times: int, through_api: bool) -> None:
        with self.acting("authenticated" if through_api else "service_role", person):
            self.stage.execute(
                "insert into data_deletion_requests (account_id, request_reason) select %s, 'n' || n"
                " from generate_series(1, %s) n",
                (person.account, times),
            )

    # -- what the others do

    @rule(
        data=st.data(),
        person=st.sampled_from([*VICTIMS, STAYS]),
        what=st.sampled_from(["visit", "form", "text", "chat"]),
    )
    def others_go_on(self, data: st.DataObject, person: Person, what: str) -> None:
        if str(person.account) in self.leavers:
            return
        self.written += 1
        if what == "visit":
            add_visit(self.stage, person, person.visit, signed_in=data.draw(st.booleans()), number=100 + self.written)
        elif what == "form":
            add_booking(self.stage, person, f"form/{self.written}", person.email, signed_in=False)
        elif what == "text":
            text = {"search_query": data.draw(TEXTS), "search_context": {"typed": data.draw(TEXTS)}}
            insert(self.stage, "search_queries", account_id=person.account, session_id=person.visit, **text)
        else:
            said = {"role": "user", "content": data.draw(TEXTS), "metadata": {"of": data.draw(TEXTS)}}
            insert(self.stage, "chat_messages", session_id=person.id("chat"), sequence=1000 + self.written, **said)

    @rule(person=st.sampled_from(VICTIMS))
    def a_victim_asks(self, person: Person) -> None:
        insert(self.stage, "data_deletion_requests", account_id=person.account)

    # -- what workers do

    @rule(size=st.sampled_from([1, 1000]), last=st.sampled_from([None, None, *STEPS]), committed=st.booleans())
    def a_worker_comes(self, size: int, last: str | None, committed: bool) -> None:
        """It may die in a step, whose transaction is undone, or right behind it."""
        self.run(size, last, committed)

    def look(self) -> dict[tuple[str, str], dict[str, Any]]:
        """A dump, from which is learned what those who have asked are known by."""
        found = dump(self.stage)
        for row in of(found, "data_deletion_requests"):
            self.leavers.setdefault(row["account_id"], Leaver(row["account_id"]))
        for leaver in self.leavers.values():
            leaver.learn(found, self.leavers)
        return found

    def run(self, size: int, last: str | None = None, committed: bool = True) -> None:
        before, newest = self.look(), value(self.stage, "select coalesce(max(id), 0) from lifecycle.erasure_receipts")
        self.stage.execute(AGAIN)
        self.stage.execute("select find_returned_personal_data()")
        while batch := value(self.stage, "select lifecycle.claim_deletion_jobs(%s)", (size,)):
            for name in STEPS:
                with self.stage.transaction(force_rollback=name == last and not committed):
                    self.work(batch, name)
                if name == last:
                    break
            if last:
                break
        self.stage.execute(LEASE_OVER)
        after = dump(self.stage)
        assert wrongs(before, after, self.leavers.values()) == []
        self.the_ledger_of_jobs_is_whole(after)
        self.receipts_are_true(after, newest)
        if not last:
            self.nobody_waits()

    def work(self, batch: UUID, name: str) -> None:
        for (relation,) in rows(self.stage, BASE_TABLES) if name == "search" else [(None,)]:
            outcome = step(self.stage, batch, name, relation)
            assert outcome == "done", (
                name,
                relation,
                rows(self.stage, "select last_error from lifecycle.deletion_jobs"),
            )

    # -- what holds

    def the_ledger_of_jobs_is_whole(self, found: dict[tuple[str, str], dict[str, Any]]) -> None:
        now = {row["id"]: row for row in of(found, "audit_events") if row["entity_type"] == "job"}
        assert {known: now.get(known) for known in self.job_rows} == self.job_rows
        self.job_rows = now

    def receipts_are_true(self, found: dict[tuple[str, str], dict[str, Any]], newest: int) -> None:
        """Where those who got one still stand is what it says."""
        for _, account, body in rows(self.stage, RECEIPTS, (newest,)):
            left, exempt = (
                {tuple(place["column"].split(".")[1:]) for place in body[what] if place["column"].startswith("public.")}
                for what in ("left_with_others", "exemptions")
            )
            named = columns_that_name(found, self.leavers[account].bound)
            assert exempt <= declared("exempt")
            assert {place: content for place, content in named.items() if place not in left | exempt} == {}
            if body["result"] == "verified":
                assert not left
                assert not body["not_followed"]
            # Once the sign-in is gone nobody knows its address; names of visits are remembered.
            gone = self.leavers[account]
            self.leavers[account] = Leaver(account, visits=gone.visits, own=gone.own)
        assert rows(self.stage, "select * from lifecycle.broken_receipts()") == []

    def nobody_waits(self) -> None:
        for account, state, error in rows(self.stage, NOT_VERIFIED):
            self.waited[account] += 1
            assert self.waited[account] <= MOST_RUNS, (account, state, error)

    def ends(self) -> None:
        """Everybody who has asked goes, the adversary's own rows too, from whatever holds any."""
        for _ in range(MOST_RUNS):
            self.run(1000)
        assert rows(self.stage, NOT_VERIFIED) == []
        assert rows(self.stage, "select * from lifecycle.erasure_keys") == []


def _plain(content: Any) -> Any:
    """As JSON has it."""
    return (
        list(content)
        if isinstance(content, tuple)
        else str(content)
        if not isinstance(content, dict | list | int | bool)
        else content
    )


@pytest.fixture(scope="module")
def stage(server: Server, templates: Templates) -> Iterator[Connection]:
    """Victims with rows everywhere, and one who stays; texts that name what an adversary may claim."""
    with connect(clone_database(server, templates(False, True, True), "machine")) as conn:
        add_catalogue(conn)
        for person in (*VICTIMS, STAYS):
            add_person(conn, person.name, shared=SHARED if person in (VICTIMS[1], STAYS) else None)
        add_visit(conn, STAYS, ANONYMOUS, signed_in=False)
        texts = {"search_query": f"booking {ELSEWHERE}", "search_context": {"seen": str(GONE), "in": ANONYMOUS}}
        insert(conn, "search_queries", account_id=STAYS.account, **texts)
        about = {"entity_type": "activity", "event_type": "removed", "payload": {"by": "the house"}}
        insert(conn, "audit_events", entity_id=str(GONE), **about)
        conn.execute("set statement_timeout = '15s'")
        yield conn
    drop_database(server, "machine")


def test_whatever_the_adversary_does_nobody_else_loses_or_waits(stage: Connection) -> None:
    class Machine(Adversary):
        def teardown(self) -> None:
            try:
                self.ends()
            finally:
                super().teardown()

    Machine.stage, Machine.accepted = stage, Counter()
    Machine.columns = {table: rows(stage, COLUMNS, (table,)) for table in TABLES}
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            print_blob=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    # What is refused shows nothing: at least these were written, by whom it may be.
    assert {name for name, times in Machine.accepted.items() if times} >= MUST_BE_WRITTEN, Machine.accepted
