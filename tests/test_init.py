"""`lifecycle init`: drafts of the shipped application, of a strange one and of none, beside what people wrote."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg import sql
from sqlalchemy import make_url
from typer.testing import CliRunner

from lifecycle.database import connect, rows, value
from lifecycle.declarations.loader import load_application
from lifecycle.drafting.entry import yaml_lines
from lifecycle.drafting.files import merged
from lifecycle.language import set_language
from lifecycle.names import QualifiedName
from orchestration.cli.main import app
from resources.variables import APPLICATION_VARIABLE, LANGUAGE_VARIABLE, URL_VARIABLE
from sandbox.application import SQL, drop_database
from sandbox.server import SUPERUSER, Server
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, APPLICATION_FOLDER
from tests.docs_pages import ROOT, blocks
from tests.texts import english_in

Command = Callable[..., str]
STRANGE = ROOT / "tests/data/strange_schema.sql"
PAGE = ROOT / "docs/quickstart-your-database.md"
WRITTEN = "select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_xact_all_tables"
OBJECTS = "select count(*), max(oid::bigint) from pg_class"


@pytest.fixture
def lifecycle(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command on a database, with the declarations of a folder; its output. A traceback fails the test."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(url: str, *arguments: object, folder: Path | None = None, code: int = 0) -> str:
        monkeypatch.setenv(URL_VARIABLE, url)
        if folder is not None:
            monkeypatch.setenv(APPLICATION_VARIABLE, str(folder))
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.fixture
def make_db(server: Server) -> Iterator[Callable[..., str]]:
    """Make a database with Supabase's schemas, or without them, and somebody's migration in it."""
    made: list[str] = []

    def make(*files: Path, supabase: bool = True) -> str:
        name = f"init_{len(made)}"
        drop_database(server, name)
        made.append(name)
        with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as admin:
            admin.execute(sql.SQL("create database {} owner postgres").format(sql.Identifier(name)))
        with psycopg.connect(server.url(name, user=SUPERUSER), autocommit=True) as admin:
            for platform in ("supabase.sql", "auto_grant.sql") if supabase else ():
                admin.execute((SQL / platform).read_bytes())
        with connect(server.url(name)) as conn:
            for file in files:
                conn.execute(file.read_bytes())
        return server.url(name)

    yield make
    for name in made:
        drop_database(server, name)


def read_only(url: str) -> str:
    """The same database, in sessions of which none can write."""
    return make_url(url).update_query_dict({"options": "-cdefault_transaction_read_only=on"}).render_as_string(False)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}


def uncommented(folder: Path, to: Path) -> Path:
    """A copy with every proposal in force."""
    shutil.copytree(folder, to)
    for path in to.glob("*.yaml"):
        path.write_text(re.sub("^# ", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
    return to


@pytest.mark.every_version
def test_the_shipped_application_is_found_again(
    make_application_db: MakeApplicationDb, lifecycle: Command, tmp_path: Path
) -> None:
    url = make_application_db()
    with connect(url) as conn:
        conn.execute("analyze")
        before = rows(conn, OBJECTS)
    draft = tmp_path / "draft"
    told = lifecycle(read_only(url), "init", draft)
    assert max(map(len, told.partition("Next")[0].splitlines())) <= 80
    for command in ("lifecycle check", "lifecycle plan", "lifecycle migrate"):
        assert command in told
    lifecycle(read_only(url), "init", tmp_path / "again")
    assert texts(draft) == texts(tmp_path / "again")
    with connect(url) as conn:
        assert rows(conn, OBJECTS) == before

    # In force is nothing that drops, deletes, moves, hides or delays a row.
    safe = load_application(draft)
    assert safe.views.materialized.keys() == {
        name for name, view in APPLICATION.views.materialized.items() if not view.optional
    }
    assert not {*safe.event_tables, *safe.archived_tables, *safe.views.kept, *safe.access.relations}
    assert safe.personal_data is None
    assert safe.database.ledger is None
    assert set(APPLICATION.database.managed_schemas) <= set(safe.database.managed_schemas)
    assert "has nothing of the declared" in lifecycle(url, "check", folder=draft, code=1)
    assert "Nothing was changed." in lifecycle(url, "plan", folder=draft)

    proposed = load_application(uncommented(draft, tmp_path / "all"))
    assert proposed.event_tables.keys() >= APPLICATION.event_tables.keys()
    assert {name: table.time for name, table in APPLICATION.event_tables.items()}.items() <= {
        name: table.time for name, table in proposed.event_tables.items()
    }.items()
    ledger = proposed.database.ledger
    assert ledger is not None
    assert APPLICATION.database.ledger is not None
    assert ledger.model_dump(exclude={"why"}) == APPLICATION.database.ledger.model_dump(exclude={"why"})
    (archived,) = proposed.archived_tables.items()
    known = APPLICATION.archived_tables[archived[0]]
    assert (archived[1].group, archived[1].time, archived[1].compress) == (known.group, known.time, known.compress)
    here = {relation.name for relation in proposed.relations}
    kept = {name for name in APPLICATION.views.kept if name in here}
    assert len(kept & proposed.views.kept.keys()) >= 0.8 * len(kept)
    data, hand = proposed.personal_data, APPLICATION.personal_data
    assert data is not None
    assert hand is not None
    assert (data.person.table, data.person.key, data.person.sign_in) == (hand.person.table, "id", hand.person.sign_in)
    assert data.requests.model_copy(update={"why": "", "late_window": ""}) == hand.requests.model_copy(
        update={"why": "", "late_window": ""}
    )
    assert {name for name in hand.tables if name in here} <= data.tables.keys()
    by_hand = {(name, step.by, step.key) for name, table in hand.tables.items() for step in table.steps if name in here}
    drafted = {(name, step.by, step.key) for name, table in data.tables.items() for step in table.steps}
    assert len(by_hand & drafted) >= 20
    assert proposed.access.relations.keys() >= {n for n, r in APPLICATION.access.relations.items() if not r.optional}
    told = lifecycle(url, "check", folder=tmp_path / "all", code=1)
    assert " (erasures): " not in told
    assert "would be kept by" in lifecycle(url, "plan", folder=tmp_path / "all")


@pytest.mark.every_version
def test_what_a_person_wrote_stays_and_what_is_new_is_added(
    make_application_db: MakeApplicationDb, lifecycle: Command, tmp_path: Path
) -> None:
    url = make_application_db(rows=False)
    folder = tmp_path / "application"
    shutil.copytree(APPLICATION_FOLDER, folder)
    before = texts(folder)
    lifecycle(url, "init", folder, "--seconds", 0)
    after = texts(folder)
    assert load_application(folder).model_copy(update={"relations": ()}) == load_application(
        APPLICATION_FOLDER
    ).model_copy(update={"relations": ()})
    for name in before.keys() - {"schema.json"}:
        left = iter(after[name].splitlines())
        assert all(line in left for line in before[name].splitlines()), name
    assert "is as it was" in lifecycle(url, "init", folder, "--seconds", 0)
    assert texts(folder) == after

    with connect(url) as conn:
        conn.execute("drop view daily_chat_usage cascade")
        conn.execute("create table parcel_events (id uuid primary key, created_at timestamptz not null default now())")
    told = " ".join(lifecycle(url, "init", folder, "--seconds", 0).split())
    assert "New in event_tables.yaml: public.parcel_events" in told
    assert "Named in views.yaml and gone from the database: public.daily_chat_usage" in told
    assert "# public.parcel_events: {time: created_at" in (folder / "event_tables.yaml").read_text(encoding="utf-8")
    assert "  public.daily_chat_usage: {}\n" in (folder / "views.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("supabase", [True, False])
@pytest.mark.one_server
def test_an_empty_database_is_drafted_in_a_sentence(
    make_db: Callable[..., str],
    lifecycle: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    supabase: bool,
) -> None:
    url = make_db(supabase=supabase)
    assert "declares nothing yet" in lifecycle(url, "init", tmp_path)
    application = load_application(tmp_path)
    assert bool(application.database.managed_schemas) is supabase
    assert application.relations == ()
    monkeypatch.setenv(LANGUAGE_VARIABLE, "ja")
    told = lifecycle(url, "init", tmp_path)
    set_language("")
    assert "下書きはまだ何も宣言していません。" in told
    assert not [found for line in told.splitlines() for found in english_in(line)]
    monkeypatch.delenv(LANGUAGE_VARIABLE)
    for folder in (tmp_path, uncommented(tmp_path, tmp_path / "all")):
        lifecycle(url, "check", code=1, folder=folder)
        assert "Nothing was changed." in lifecycle(url, "plan", folder=folder)


def test_a_strange_application_is_drafted_whole(
    make_db: Callable[..., str], lifecycle: Command, tmp_path: Path
) -> None:
    url = make_db(STRANGE)
    with connect(url) as conn:
        conn.execute("insert into public.click_events (page) select g::text from generate_series(1, 30000) g")
        conn.execute("refresh materialized view public.pages")
        conn.execute("analyze")
        conn.execute("grant usage on schema public to anon")
    told = lifecycle(url, "init", tmp_path / "draft", "--seconds", 0.5)
    with connect(url) as conn:
        assert value(conn, "select count(*) from public.newsletter") == 0
    assert "public.sleeps: did not end in time" in told
    files = texts(tmp_path / "draft")
    views = " ".join(files["views.yaml"].replace("\n## ", " ").split())
    assert "public.writes was not measured: calls write_and_count()" in views
    assert "public.hides was not measured: cannot execute INSERT in a read-only transaction" in views
    assert "public.breaks was not measured: division by zero" in views
    assert re.search(r"# +public.per_page: \{key: page\} +# reads 1.0 MB to 10 MB", views)
    assert "  public.pages: {max_age: 1 day}" in files["views.yaml"]
    assert """#   '"Shop"."Totals"': {max_age: 1 day}""" in files["views.yaml"]
    events = " ".join(files["event_tables.yaml"].replace("\n## ", " ").split())
    assert "about 30,000 rows" in events
    assert "click_comments points at it; drop that constraint or point it elsewhere" in events
    assert "createdAt has no time zone" in events
    assert "{time: createdAt, zone: UTC, keep: 24 months}" in events

    proposed = load_application(uncommented(tmp_path / "draft", tmp_path / "all"))
    assert [str(name) for name in proposed.event_tables] == ['"Shop"."page, views"', "public.click_events"]
    data = proposed.personal_data
    assert data is not None
    assert str(data.person.table) == '"Shop"."Members"'
    assert data.keys["sign_in_user"].sources[0].take == "authId"
    assert data.keys["order_header"].sources[0].take == "orderNo"
    steps = {str(name): [(s.by, s.key, s.do) for s in table.steps] for name, table in data.tables.items()}
    assert steps['"Shop"."OrderNotes"'] == [("orderNo", "order_header", "delete")]
    # What says who did something makes a row nobody's own.
    assert steps['"Shop"."OrderHeader"'] == [("memberNo", "person", "delete"), ("approvedBy", "person", "scrub")]
    assert "checkedBy" in data.tables[QualifiedName("Shop", "OrderHeader")].exempt
    # A row that stays stays whoever leaves it, without what tells of them.
    assert steps['"Shop"."Staff"'] == [("memberNo", "person", "scrub"), ("supabaseUserId", "sign_in_user", "scrub")]
    assert data.tables[QualifiedName("Shop", "Staff")].steps[0].set.keys() == {"memberNo", "phone"}
    words = data.requests.words
    assert (words.pending, words.processing, words.completed, words.failed) == ("NEW", "IN_WORK", "DONE", "REJECTED")
    assert (str(data.requests.table), data.requests.requested_at) == ('"Shop"."DataRequests"', "askedAt")
    order = list(steps)
    assert order.index('"Shop"."OrderNotes"') < order.index('"Shop"."OrderHeader"') < order.index('"Shop"."Members"')
    assert "email" in files["personal_data.yaml"].partition("Looks personal")[2].splitlines()[0]
    with connect(url) as conn:
        conn.execute('drop table "Shop"."DataRequests"')
    lifecycle(url, "init", tmp_path / "without", "--seconds", 0)
    ours = load_application(uncommented(tmp_path / "without", tmp_path / "ours"))
    assert ours.personal_data is not None
    assert ours.personal_data.requests.are_ours
    assert " (erasures): " not in lifecycle(url, "check", folder=tmp_path / "ours", code=1)
    assert "Nothing was changed." in lifecycle(url, "plan", folder=tmp_path / "ours")
    assert proposed.access.routines.keys() == {name for name in proposed.access.routines if name.name == "my_id"}
    assert "Nothing was changed." in lifecycle(url, "plan", folder=tmp_path / "draft")
    lifecycle(url, "check", folder=tmp_path / "all", code=1)


@pytest.mark.one_server
def test_where_accounts_are_teams_the_sign_in_is_the_person(
    make_db: Callable[..., str], lifecycle: Command, tmp_path: Path
) -> None:
    url = make_db()
    with connect(url) as conn:
        conn.execute("create table accounts (id uuid primary key, slug text)")
        conn.execute("create table members (account uuid references accounts, who uuid not null references auth.users)")
        conn.execute("create table projects (id uuid primary key, account uuid not null references accounts)")
    lifecycle(url, "init", tmp_path / "draft")
    data = load_application(uncommented(tmp_path / "draft", tmp_path / "all")).personal_data
    assert data is not None
    assert (str(data.person.table), data.person.key) == ("auth.users", "id")
    assert data.person.sign_in is not None
    assert data.person.sign_in.key == "person"
    steps = {str(name): [(step.by, step.key) for step in table.steps] for name, table in data.tables.items()}
    assert steps == {"public.members": [("who", "person")], "public.accounts": [], "public.projects": []}


@pytest.mark.one_server
def test_what_a_role_may_not_see_is_named_with_the_grant(
    make_db: Callable[..., str], server: Server, lifecycle: Command, tmp_path: Path
) -> None:
    url = make_db(STRANGE)
    with psycopg.connect(server.url(make_url(url).database or "", user=SUPERUSER), autocommit=True) as admin:
        admin.execute("drop role if exists looker")
        admin.execute("create role looker login password 'looking' in role anon")
        admin.execute("revoke usage on schema hidden from public")
        admin.execute("revoke select on public.newsletter from anon")
    try:
        looking = make_url(url).set(username="looker", password="looking").render_as_string(False)  # noqa: S106
        told = " ".join(lifecycle(looking, "init", tmp_path, "--seconds", 0.2).split())
        assert "schema hidden: grant usage on schema hidden to looker" in told
        assert "public.newsletter: grant select on public.newsletter to looker" in told
        assert "hidden.secrets" not in (tmp_path / "personal_data.yaml").read_text(encoding="utf-8")
    finally:
        with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as admin:
            drop_database(server, make_url(url).database or "")
            admin.execute("drop role looker")


@pytest.mark.one_server
def test_a_place_that_is_no_folder_and_broken_declarations_are_refused(
    make_db: Callable[..., str], lifecycle: Command, tmp_path: Path
) -> None:
    url = make_db()
    (tmp_path / "file").write_text("mine")
    assert "is a file: name a folder" in lifecycle(url, "init", tmp_path / "file", code=1)
    assert "lies in a file" in lifecycle(url, "init", tmp_path / "file" / "below", code=1)
    assert (tmp_path / "file").read_text() == "mine"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "views.yaml").write_text("kept: [")
    assert "views.yaml:1" in lifecycle(url, "init", broken, code=1)
    assert texts(broken) == {"views.yaml": "kept: ["}
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.getuid():
        assert "cannot be written into" in lifecycle(url, "init", tmp_path / "closed", code=1)


@pytest.mark.parametrize(
    "name", ['"a: b".c', '"on".t', 'public."it\'s"', 'public."a, b"', 'public."{x}"', 'public." #1"', "public.t"]
)
def test_any_name_is_a_key_of_yaml(name: str) -> None:
    value = {"time": "on", "steps": [{"by": name, "set": {"null": None}}], "why": "x: y # z"}
    for width in (value, value | {"redacted": [name] * 30}):
        assert yaml.safe_load("\n".join(yaml_lines(name, width, 0))) == {name: width}


def test_a_merge_adds_comments_to_the_right_section_and_nothing_else() -> None:
    from lifecycle.drafting.entry import Entry

    text = (
        "# ours: mind the gap\nkept:\n    public.a: {}  # dear\n    #public.no: {}\n\n# What follows is refreshed.\n"
        "materialized: {public.m: {max_age: 1 day}}\n"
    )
    entries = [Entry("views", "kept", name, {}) for name in ("public.a", "public.no", "public.b")]
    entries += [Entry("views", "materialized", name, {}) for name in ("public.m", "public.n")]
    result, added = merged(text, "views", entries)
    assert [entry.key for entry in added] == ["public.b", "public.n"]
    assert result == text.replace("    #public.no: {}\n", "    #public.no: {}\n#   public.b: {}\n") + (
        "#   public.n: {}\n"
    )
    assert merged(result, "views", entries) == (result, ())


@pytest.mark.every_version
@pytest.mark.one_server
def test_the_quickstart_works_as_it_is_written(make_application_db: MakeApplicationDb, tmp_path: Path) -> None:
    url = make_application_db()
    with connect(url) as conn:
        conn.execute("analyze")
    install, *steps = blocks(PAGE, "sh")
    assert "LIFECYCLE_DATABASE_URL" in install
    script = "set -x\n" + "".join(steps)
    bin_folder = Path(os.sys.executable).parent  # type: ignore[attr-defined]
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", URL_VARIABLE: url, "COLUMNS": "100"}
    ran = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    assert "run `lifecycle migrate`" in ran.stdout
    assert "The declarations and the database agree." in ran.stdout
    assert len(re.findall(r"view public\.\w+ answers from", ran.stdout)) >= 15
    with connect(url) as conn:
        assert value(conn, "select to_regclass('lifecycle.kept_views')") is None
        assert value(conn, "select to_regclass('lifecycle.event_table_policies')") is None
        assert value(conn, "select count(*) from public.user_engagement_scores") > 0


def test_both_quickstarts_show_the_same_commands() -> None:
    assert blocks(PAGE, "sh") == blocks(ROOT / "docs/ja" / PAGE.name, "sh")
