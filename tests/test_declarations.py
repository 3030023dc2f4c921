"""The declarations: what the loader takes, and how it tells what it does not take."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from lifecycle.declarations.application import FILES, Application
from lifecycle.declarations.loader import DEFAULT_FOLDER, load_application
from lifecycle.declarations.schema import json_schemas
from lifecycle.errors import DeclarationError
from lifecycle.names import QualifiedName
from tests.november import read

LEDGER = """\
ledger:
  table: public.happened
  kind: kind
  subject: subject
  event: event
  payload: payload
  at: at
"""


def folder_with(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def told(folder: Path) -> str:
    with pytest.raises(DeclarationError) as caught:
        load_application(folder)
    return str(caught.value).replace(f"{folder}/", "")


def test_an_empty_folder_declares_nothing(tmp_path: Path) -> None:
    assert load_application(tmp_path) == Application()
    for name in FILES:
        (tmp_path / f"{name}.yaml").write_text("# nothing yet\n")
    assert load_application(tmp_path) == Application()


def test_a_section_whose_lines_are_comments_declares_nothing(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, views="kept:\n#  public.a: {}\ntime_zone: Asia/Tokyo\n", archive="# nothing yet\n")
    assert load_application(folder).views.kept == {}
    assert load_application(folder).views.time_zone == "Asia/Tokyo"
    assert "event_tables.yaml:1: public.a: " in told(folder_with(tmp_path, event_tables="public.a:\n"))


def test_the_shipped_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_application(DEFAULT_FOLDER).event_tables
    assert load_application(DEFAULT_FOLDER).relations


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("event_tables", "app.visits: {time: at, keep: 2 monts}\n",
         "event_tables.yaml:1: app.visits -> keep: '2 monts': monts is no unit of time; "
         "did you mean months? (known: minutes, hours, days, weeks, months, years)"),
        ("event_tables", "app.visits:\n  time: at\n  keep: soon\n", "event_tables.yaml:3: app.visits -> keep: "
         "'soon' is no length of time: write it as `90 days` or `1 year 6 months`"),
        ("event_tables", "app.visits:\n  time: at\n  keep: 0 days\n", "event_tables.yaml:3: app.visits -> keep: "
         "'0 days': 0 is no whole number above zero"),
        ("event_tables", "app.visits:\n  time: at\n", "event_tables.yaml:1: app.visits: keep is missing"),
        ("event_tables", "app.visits:\n  tme: at\n  keep: 1 day\n  time: x\n", "event_tables.yaml:2: app.visits -> "
         "tme: is no key here; did you mean time? (known: why, optional, time, zone, keep"),
        ("event_tables", "visits: {time: at, keep: 1 day}\n",
         "event_tables.yaml:1: visits: 'visits' is no schema.name"),
        ("event_tables", "App.Visits: {time: at, keep: 1 day}\n", "quotes around capitals"),
        ("event_tables", "app.visits: {time: at, keep: 1 day}\napp.visits: {time: at, keep: 1 day}\n",
         "event_tables.yaml:2: app.visits: is named twice"),
        ("event_tables", "app.visits: {time: at\n", "event_tables.yaml:2: expected ',' or '}'"),
        ("database", LEDGER + "  who: me\n", "database.yaml:8: ledger -> who: is no key here"),
        ("database", "calender: UTC\n", "database.yaml:1: calender: is no key here; did you mean calendar?"),
        ("database", "- calendar\n", "database.yaml:1: the file: "),
    ],
)  # fmt: skip
def test_an_error_names_file_line_key_and_the_nearest_word(file: str, text: str, says: str, tmp_path: Path) -> None:
    assert says in told(folder_with(tmp_path, **{file: text}))


def test_every_error_is_told_at_once(tmp_path: Path) -> None:
    lines = "".join(f"app.t{number}: {{time: at, keep: 1 yaer}}\n" for number in range(30))
    messages = told(folder_with(tmp_path, event_tables=lines)).splitlines()
    assert len(messages) == 21
    assert messages[7].startswith("event_tables.yaml:8: app.t7 -> keep")
    assert messages[-1] == "and 10 more"


def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    assert "event_table.yaml: is none of the files of declarations; did you mean event_tables.yaml?" in told(
        folder_with(tmp_path, event_table="")
    )
    (tmp_path / "event_table.yaml").unlink()
    (tmp_path / "database.yml").write_text("")
    assert "database.yml: is none of the files" in told(tmp_path)


def test_a_missing_folder_and_a_broken_snapshot_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"no such folder of declarations\. Name yours.*LIFECYCLE_APPLICATION="):
        load_application(tmp_path / "absent")
    (tmp_path / "schema.json").write_text("[")
    assert "schema.json: cannot be read" in told(tmp_path)
    assert "`lifecycle schema` writes it anew" in told(tmp_path)


def test_names_are_as_postgresql_would_print_them(tmp_path: Path) -> None:
    text = 'app."documentTransaction": {time: createdAt, keep: 1 year 6 months}\n'
    (name,) = load_application(folder_with(tmp_path, event_tables=text)).event_tables
    assert name == QualifiedName("app", "documentTransaction")
    assert str(name) == 'app."documentTransaction"'


def test_the_published_schemas_take_what_the_loader_takes() -> None:
    for name, schema in json_schemas().items():
        Draft202012Validator.check_schema(schema)
        file = DEFAULT_FOLDER / f"{name}.yaml"
        if file.is_file():
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(read(file))]
            assert errors == [], file
        published = Path(__file__).parents[1] / f"docs/reference/schemas/{name}.json"
        assert json.loads(published.read_text(encoding="utf-8")) == schema, "run: lifecycle docs"
