"""What the documents say exists and works: links, commands, pages made from the code, SQL of the how-to pages."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import typer
from dagster_dg_cli.cli.launch import launch_command
from dagster_shared.yaml_utils import load_run_config_yaml
from dagster_webserver.cli import dagster_webserver
from typer.core import TyperGroup

from orchestration.cli.main import app
from orchestration.definitions import build_definitions
from orchestration.docs.pages import pages
from resources.dagster_private import DAEMON
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, EVENT_TABLES
from tests.docs_pages import ROOT, blocks, convert

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README, README_JA = ROOT / "README.md", ROOT / "README.ja.md"
SQL_PAGES = (
    "rotate-without-dagster",
    "refresh-without-dagster",
    "read-an-alert-or-a-failed-run",
    "set-up-slack",
    "weekly-review",
    "hot-query-indexes",
)
# A key such as lifecycle/storage_history looks like a file of the folder lifecycle.
ASSETS = {spec.key.to_user_string() for spec in build_definitions().resolve_all_asset_specs()}
FOLDERS = "assets|benchmarks|docs|lifecycle|migrations|orchestration|resources|sandbox|sensors|tests"


def anchors(page: Path) -> set[str]:
    """The anchors that a Markdown renderer makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target
    for name in re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text):
        assert (ROOT / name).exists() or "NNNN" in name or name in ASSETS, name
    assert not re.search(r"(?<![\w/])/(root|work|tmp|home)/", text)


def test_pictures_are_small() -> None:
    for picture in ROOT.glob("docs/images/*"):
        assert picture.suffix in (".png", ".svg")
        assert picture.stat().st_size < 300_000


def test_both_readmes_say_the_same() -> None:
    english, japanese = (page.read_text(encoding="utf-8") for page in (README, README_JA))
    assert len(english.splitlines()) <= 200
    for pattern in (r"^#+ ", r"^ *\| ", r"^\d\. ", r"^!\[", r"^<img"):
        assert len(re.findall(pattern, english, re.MULTILINE)) == len(re.findall(pattern, japanese, re.MULTILINE))
    for same in (
        r"^ *```sh\n.*?```",
        r"\]\(((?!README|docs/ja/|docs/reference/commands-and-environment.md#)[^)]+)\)",
        r"src=\S+",
    ):
        found = [re.findall(same, text, re.MULTILINE | re.DOTALL) for text in (english, japanese)]
        assert found[0] == found[1]


def test_sql_of_the_japanese_pages_is_that_of_the_english_ones() -> None:
    """Which runs, below."""
    english = {text for page in ROOT.glob("docs/how-to/*.md") for text in blocks(page, "sql")}
    japanese = [text for page in ROOT.glob("docs/ja/*.md") for text in blocks(page, "sql")]
    assert len(japanese) >= 5
    assert set(japanese) <= english


def shell_lines() -> list[str]:
    shown = [
        found for page in PAGES for found in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    return sorted({line.strip() for text in shown for line in text.splitlines() if line.strip()})


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts if option.startswith("-")}


def options_of_the_daemon() -> set[str]:
    """From its help: the command itself stands in a private module of Dagster."""
    told = subprocess.run([sys.executable, "-m", DAEMON, "run", "--help"], capture_output=True, text=True, check=True)
    return {option for line in re.findall(r"^ +(-.*)$", told.stdout, re.MULTILINE) for option in OPTION.findall(line)}


COMMANDS = {
    **{
        f"lifecycle {name}": command
        for name, command in typer.main.get_group(app).commands.items()
        if not isinstance(command, TyperGroup)
    },
    **{
        f"lifecycle {group} {name}": command
        for group, commands in typer.main.get_group(app).commands.items()
        if isinstance(commands, TyperGroup)
        for name, command in commands.commands.items()
    },
    "dg launch": launch_command,
    "dagster-webserver": dagster_webserver,
}
DAEMON_RUN = "dagster-daemon run"
OPTION = re.compile(r"(?<![^ ])--?[a-z][a-z-]*")
GENERATED = pages(APPLICATION, typer.main.get_group(app))
PLAIN = (
    "export ",
    "sed -i.bak ",
    "mkdir ",
    "cp dagster.yaml ",
    ". .venv/bin/activate",
    "pytest",
    "LIFECYCLE_TEST_SERVERS=",
)
# Run by test_application_dumps.py, test_schema_comparison.py and test_backup.py; those of Supabase need Docker.
RUN_ELSEWHERE = (
    "pg_restore --",
    "pg_dump --",
    'pg_dump "',
    "pg_dumpall ",
    "psql --quiet ",
    "migra ",
    "diff local.sql ",
    "supabase db ",
)
TOOLS = ("ruff format .", "mypy", "lint-imports", "pre-commit install", '.venv/bin/alembic -x url="')


@pytest.mark.parametrize("line", shell_lines())
def test_commands_shown_exist(line: str) -> None:
    if line.startswith((*PLAIN, *TOOLS, *RUN_ELSEWHERE)):
        return
    if line.startswith("make "):
        assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    (name,) = [name for name in (*COMMANDS, DAEMON_RUN) if line.startswith(name)]
    known = options_of_the_daemon() if name == DAEMON_RUN else options(COMMANDS[name])
    assert set(OPTION.findall(line)) <= known
    if job := re.search(r"--job (\w+)", line):
        config = re.search(r"--config-json '(.*)'", line)
        definition = build_definitions().resolve_job_def(job[1])
        dg.validate_run_config(definition, json.loads(config[1]) if config else {})


def test_configuration_shown_is_valid() -> None:
    (text,) = blocks(ROOT / "docs/how-to/convert-event-tables.md", "yaml")
    dg.validate_run_config(build_definitions().resolve_job_def("convert_event_tables"), load_run_config_yaml(text))


def test_every_option_and_variable_is_described() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    ours = set().union(*(options(command) for name, command in COMMANDS.items() if name.startswith("lifecycle")))
    assert ours - {"--help"} <= set(re.findall(r"--[a-z0-9-]+", page))
    page = (ROOT / "docs/reference/commands-and-environment.md").read_text()
    code = "".join(path.read_text() for path in [*ROOT.glob("*/*.py"), *ROOT.glob("*/*/*.py"), ROOT / "dagster.yaml"])
    variables = set(re.findall(r"`((?:LIFECYCLE|DAGSTER)_[A-Z_]+)` \|", page))
    assert variables
    assert all(variable in code for variable in variables)


@pytest.mark.parametrize(("page", "text"), GENERATED.items(), ids=GENERATED)
def test_generated_pages_are_up_to_date(page: str, text: str) -> None:
    assert (ROOT / page).read_text(encoding="utf-8") == text, "run: lifecycle docs"


def test_database_objects_names_every_object(make_application_db: MakeApplicationDb) -> None:
    page = (ROOT / "docs/reference/database-objects.md").read_text()
    with psycopg.connect(make_application_db(rows=False, migrated=True)) as conn:
        tables = conn.execute(
            """select relname from pg_class
                where relnamespace = 'lifecycle'::regnamespace and relkind = 'r' and relname !~ '^kept_.*_'"""
        )
        functions = conn.execute(
            "select split_part(signature, '(', 1) from lifecycle.own_functions where file !~ '^application/'"
        )
        wanted = {name for (name,) in (*tables.fetchall(), *functions.fetchall())} - {"alembic_version"}
    assert wanted - set(re.findall(r"^\| `([\w.]+)[`(]", page, re.MULTILINE)) == set()


def test_recipes_for_migrations_make_way(make_application_db: MakeApplicationDb) -> None:
    recipes = blocks(ROOT / "docs/explanation/what-changes-for-your-migrations.md", "sql")
    assert len(recipes) == 2
    with psycopg.connect(make_application_db(rows=False, migrated=True), autocommit=True) as conn:
        for recipe in recipes:
            statement = recipe.strip().splitlines()[-1]
            assert statement.startswith("alter table")
            with pytest.raises(psycopg.errors.DependentObjectsStillExist):
                conn.execute(statement.encode())
            conn.execute(recipe.encode())


def test_sql_of_the_how_to_pages_runs(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    statements = [
        text
        for name in SQL_PAGES
        for text in blocks(ROOT / f"docs/how-to/{name}.md", "sql")
        if "cron.schedule" not in text
    ]
    assert len(statements) >= 7
    with psycopg.connect(url, autocommit=True) as conn:
        convert(url, EVENT_TABLES[0], split=True)
        conn.execute("grant select on event_partitions.user_behavior_events_default to anon")
        for statement in statements:
            assert conn.execute(statement.encode()).description
        open_to_anon = "select has_table_privilege('anon', 'event_partitions.user_behavior_events_default', 'select')"
        assert conn.execute(open_to_anon.encode()).fetchone() == (False,)
