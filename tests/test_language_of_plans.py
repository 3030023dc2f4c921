"""What `lifecycle plan` says in Japanese of what it refuses and warns of; programs and errors go on reading English."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from lifecycle.database import connect
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase, _, set_language
from lifecycle.partitions.changed import CHANGED_STATEMENTS
from lifecycle.partitions.facts import DatabaseFacts, probe_database
from lifecycle.partitions.held import HOLDS, HOLDS_TOO
from lifecycle.partitions.plan import RotationPlan, plan_conversion
from lifecycle.partitions.refusals import REFUSALS, TAKEN_NAMES
from lifecycle.partitions.warnings import WARNINGS
from lifecycle.views.plan import RefreshPlan
from orchestration.cli.plan_parts import Partitions, Plan, Views, collect_plan
from orchestration.cli.plan_report import plan_json, print_plan
from sandbox.server import SUPERUSER, Server
from tests.conversion_load import BEHAVIOUR, REPLAY, convert
from tests.declared import APPLICATION
from tests.test_plan_refusals import REFUSED
from tests.texts import english_in

pytestmark = pytest.mark.one_server
MakeDb = Callable[..., str]

# SQL, a type and an object as PostgreSQL prints them.
COPIED = ("COPY table TO", "timestamp without time zone", "column event of table copies")
TIME_IS_SET = "BEFORE trigger: "
# One of each kind, by the application's own role; what only others can do stands below.
WARNED = """
create table other (at date) partition by range (at);
create publication changes for table other, session_replay_events;
alter publication supabase_realtime add table session_replay_events;
create table recorded (id text primary key);
alter table session_replay_events add constraint strict foreign key (session_id) references recorded;
create index by_kind on session_replay_events (event_type);
alter table session_replay_events cluster on by_kind;
alter table session_replay_events force row level security;
alter table session_replay_events add constraint short check (event_type <> '') no inherit;
create function looks() returns trigger language plpgsql as 'begin perform tg_table_name; return null; end';
create trigger looks after update on session_replay_events for each row execute function looks();
create function put() returns void language sql as
    'insert into session_replay_events (id, event_type) values (gen_random_uuid(), ''x'') on conflict (id) do nothing';
create view hides as with session_replay_events as (select 1 as one)
    select r.id from public.session_replay_events r, session_replay_events;
create table event_partitions.session_replay_events_legacy ();
create table session_replay_events_legacy_pkey ();
grant select on session_replay_events to service_role with grant option;
set role service_role; grant select on session_replay_events to anon; reset role
"""
BY_OTHERS = """
create extension if not exists pg_stat_statements;
create publication everything for all tables;
create publication of_schema for tables in schema public;
create publication theirs for table session_replay_events;
create view of_others as select id from session_replay_events;
create function parsed() returns bigint return (select count(*) from public.session_replay_events);
set allow_system_table_mods = on;
update pg_index set indisvalid = false where indexrelid = 'by_kind'::regclass
"""
# A kept view that the application replaced, and that cannot be kept any more.
REPLACED = """
do $$ begin
    execute 'create or replace view daily_chat_usage with (security_invoker = true) as '
            || (select lifecycle.kept_definition('daily_chat_usage', v.kept_table) from lifecycle.kept_views v
                 where v.view_name = 'daily_chat_usage');
end $$;
alter view daily_search_stats set (security_invoker = true)
"""


@pytest.fixture
def japanese() -> Iterator[None]:
    set_language("ja")
    yield
    set_language("")


def told(phrases: tuple[Phrase, ...]) -> set[str]:
    """The English texts behind the phrases, each of which has no English left in Japanese."""
    for phrase in phrases:
        assert not english_in(_(phrase), COPIED), _(phrase)
    return {phrase.text for phrase in phrases}


@pytest.mark.usefixtures("japanese")
def test_every_refusal_and_warning(make_application_db: MakeDb, server: Server, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    met: set[str] = set()
    with connect(url) as conn, connect(server.url(url.rsplit("/", 1)[1], user=SUPERUSER)) as admin:
        # Of the many forms of one cause, the first.
        forms = [case for case in REFUSED if case.startswith(TIME_IS_SET)][1:]
        for case, (statements, _words) in REFUSED.items():
            if case not in forms:
                with conn.transaction(force_rollback=True):
                    conn.execute(statements.encode())
                    refused = plan_conversion(conn, BEHAVIOUR, now).refusals
                    assert refused
                    met |= told(refused)
        conn.execute(WARNED.encode())
        admin.execute(BY_OTHERS.encode())
        plan = plan_conversion(conn, REPLAY, now)
        met |= told(plan.refusals) | told(plan.warnings)
        assert "失敗するようになります：関数 put()" in map(_, plan.warnings)
        with conn.transaction(force_rollback=True):
            conn.execute("set local role anon")
            assert told(probe_database(conn, APPLICATION).missing_privileges)
    assert {text for text, _query in (*REFUSALS, *TAKEN_NAMES, *WARNINGS)} - met == set()


def screen(plan: Plan, capability: str | None = None) -> str:
    """What the command prints, without any English."""
    shown = StringIO()
    print_plan(plan, Console(file=shown, width=3000), capability)
    assert [line for line in shown.getvalue().splitlines() if english_in(line, COPIED)] == []
    return shown.getvalue()


@pytest.mark.usefixtures("japanese")
def test_what_the_command_prints_and_that_programs_read_english(make_application_db: MakeDb, now: datetime) -> None:
    """Something on every page is refused, warned of, changed by hand or kept waiting."""
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute("create table notes (event uuid references session_replay_events (id))")
        conn.execute(REPLACED)
        conn.execute("drop index top_search_keywords_unique_idx")
        conn.execute("create view old_words as select content from chat_messages")
        conn.execute("grant truncate on accounts to anon; alter table accounts disable row level security")
        conn.execute("drop function lifecycle.compare_kept_view")
        plan = collect_plan(conn, APPLICATION, now)
        with pytest.raises(RefusedError, match="指定できるのは partitions"):
            collect_plan(conn, APPLICATION, now, "partition")
    overview, pages = screen(plan), screen(plan, "of all")
    for words in (
        "適用後の変更：なくなっています",
        "そのまま残ります：security_invoker が有効なため",
        "所有者以外は読めません",
    ):
        assert words in overview
    for words in (
        "notes の外部キー notes_event_fkey がこのテーブルを参照しています",
        "そのまま残ります：security_invoker が有効なため",
        "更新中は読む側が待ちます",
        "ビュー public.old_words",
        "行レベルセキュリティーが無効です",
        "anon に TRUNCATE の権限があります",
    ):
        assert words in pages
    found: dict[str, Any] = json.loads(plan_json(plan))
    (refused,) = (each["refusals"] for each in found["partitions"]["conversions"] if each["refusals"])
    assert "foreign key notes_event_fkey of notes points at it" in refused[0]
    assert any("is gone since it was applied" in each for each in found["migration"])


@pytest.mark.usefixtures("japanese")
def test_what_an_error_says_stays_english(make_application_db: MakeDb, now: datetime) -> None:
    """It is kept: in the ledger, in Dagster, in the outbox."""
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute("create table notes (event uuid references session_replay_events (id))")
    with pytest.raises(RefusedError, match="foreign key notes_event_fkey of notes points at it"):
        convert(url, REPLAY, now)


@pytest.mark.usefixtures("japanese")
def test_months_that_are_held_and_privileges_that_are_missing() -> None:
    held = tuple(Phrase(text, holder="app.v", partition="visits_2024_01") for text in (*HOLDS.values(), HOLDS_TOO))
    facts = DatabaseFacts("15.1", "reader", False, True, True, (), (Phrase("CREATE on schema public"),))
    rotation = RotationPlan(REPLAY, ("2026-12",), ("visits_2024_01",), 5, held)
    plan = Plan(facts, (), {"partitions": Partitions((), (rotation,))})
    for capability in (None, "partitions"):
        assert "ビュー app.v が visits_2024_01 に依存しています" in screen(plan, capability)
        assert "スキーマ public への CREATE" in screen(plan, capability)


@pytest.mark.usefixtures("japanese")
def test_what_a_person_has_to_do_something_about_is_red() -> None:
    facts = DatabaseFacts("15.1", "reader", False, False, False, (), ())
    refused = RefreshPlan("public.gone", None, 0, "refuse: it is missing")
    shown = StringIO()
    print_plan(Plan(facts, (), {"views": Views((), (refused,), {})}), Console(file=shown, force_terminal=True))
    assert "\x1b[31mpublic.gone: 拒否：存在しません\x1b[0m" in shown.getvalue()


@pytest.mark.usefixtures("japanese")
def test_the_statements_that_will_fail_are_listed_in_japanese() -> None:
    for changed in CHANGED_STATEMENTS:
        assert not english_in(_(Phrase(changed.what)), COPIED), changed.what
