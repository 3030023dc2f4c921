"""The manner of the code base, as far as a machine can tell."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from lifecycle.migrating.capabilities import CAPABILITIES

ROOT = Path(__file__).parents[1]
FOLDERS = ("orchestration", "assets", "resources", "sensors", "lifecycle", "migrations", "sandbox")
DAGSTER_FOLDERS = ("orchestration", "assets", "resources", "sensors")
ENVIRONMENT_READERS = {"orchestration/definitions.py", "orchestration/cli/session.py"}
LONGEST_FILE = 300
LONGEST_FUNCTION = 80
NAMED_FILE = re.compile(r"(?<![\w./*-])[\w-][\w/.-]*\.(?:py|sql|md|yaml|toml)\b")
FUNCTION = re.compile(r"create (?:or replace )?(?:function|procedure) ([\w.]+)", re.IGNORECASE)
SQL_BODY = re.compile(r"\bbegin atomic\b", re.IGNORECASE)

# Lock files name the registry that they were made from; everything else must run anywhere.
MAY_NAME_A_REGISTRY = {"uv.lock"}
REGISTRY = re.compile(r"\b(pypi\.org|files\.pythonhosted\.org|index-url|extra-index-url|UV_INDEX|/simple/?\b)")
# An absolute path below a folder that only one machine has; a part of a longer path or of a URL is none.
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(work|root|home|Users)/[A-Za-z_]\w*")
TEXT_SUFFIXES = {".py", ".sql", ".md", ".toml", ".yaml", ".yml", ".ini", ".json", ".lock", ".cfg", ".txt", ""}
# A module or a name, of Dagster or a package of its family, with a part that begins with an underscore.
PRIVATE_IN_DAGSTER = re.compile(r"dagster\w*(\.\w+)*\._\w+(\.\w+)*")
# What Dagster alone needs: checks over all stems, pictures, units, the application's tables as external assets.
WITHOUT_LOGIC = {
    "__init__",
    "application",
    "charts",
    "cold_chart",
    "cold_checks",
    "checks",
    "erasure_chart",
    "erasure_checks",
    "pictures",
    "progress",
    "review_chart",
    "archive_chart",
    "bundle",
    "dagster_storage",
    "dashboards",
    "keys",
    "partition_checks",
    "statistics",
    "statistics_chart",
    "stored_once",
    "storage_history",
    "tables",
    "timeline",
    "units",
}


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked_files() -> list[Path]:
    """Files git tracks or would track; skips the test where the tree is no git checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / line for line in listed.stdout.splitlines())
    return [path for path in paths if path.is_file() and path.suffix in TEXT_SUFFIXES]


def test_imports_point_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_folder_says_what_belongs_in_it_and_what_does_not() -> None:
    packages = [path for path in modules(*FOLDERS, "benchmarks") if path.name == "__init__.py"]
    assert {path.parent.name for path in packages} >= set(FOLDERS)
    for path in packages:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), relative(path)


def test_every_module_has_a_docstring() -> None:
    for path in modules(*FOLDERS):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), relative(path)


def test_dagster_sees_real_annotations() -> None:
    """Dagster reads the types of parameters at run time; postponed annotations hide them."""
    for path in modules(*DAGSTER_FOLDERS):
        assert "from __future__ import annotations" not in path.read_text(encoding="utf-8"), relative(path)


def environment_reads(tree: ast.AST) -> Iterator[int]:
    """Lines that read one variable: os.environ[...], os.environ.get(...), os.getenv(...), dagster's EnvVar(...)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript | ast.Attribute):
            owner = node.value
            if isinstance(owner, ast.Attribute) and owner.attr == "environ" and not _copies_all(node):
                yield node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in ("getenv", "EnvVar"):
                yield node.lineno


def _copies_all(node: ast.Subscript | ast.Attribute) -> bool:
    """Passing the whole environment on to a child process chooses nothing by name."""
    return isinstance(node, ast.Attribute) and node.attr in ("items", "copy", "update", "clear")


def test_the_environment_is_read_in_two_files() -> None:
    readers = {
        relative(path): lines
        for path in modules(*FOLDERS)
        if (lines := list(environment_reads(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert set(readers) <= ENVIRONMENT_READERS, readers


def test_what_counts_as_reading_the_environment() -> None:
    for code in ("os.environ['X']", "os.environ.get('X')", "os.getenv('X')", "dg.EnvVar('X')"):
        assert list(environment_reads(ast.parse(code))), code
    assert not list(environment_reads(ast.parse("dict(os.environ); os.environ.items()")))


def test_files_stay_short() -> None:
    for path in modules(*FOLDERS):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, relative(path)


def test_functions_stay_short() -> None:
    for path in modules(*FOLDERS):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= LONGEST_FUNCTION, f"{relative(path)}: {node.name} has {lines} lines"


def test_files_that_docstrings_name_are_there() -> None:
    files = [f"/{relative(path)}" for path in tracked_files()]
    for path in modules(*FOLDERS, "tests", "benchmarks"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for name in NAMED_FILE.findall(ast.get_docstring(node) or ""):
                    assert any(file.endswith(f"/{name}") for file in files), f"{relative(path)} names {name}"


def test_an_asset_file_has_its_logic_under_the_same_stem() -> None:
    stems = {path.stem for path in (ROOT / "lifecycle").iterdir() if not path.name.startswith("_")}
    for path in (ROOT / "assets").glob("*.py"):
        assert path.stem in stems | WITHOUT_LOGIC, f"{relative(path)} has no lifecycle/{path.stem}"


def test_each_revision_has_its_sql_both_ways() -> None:
    revisions = list((ROOT / "migrations" / "versions").glob("*_[0-9]*.py"))
    assert len(revisions) >= len(CAPABILITIES) - 1
    for path in revisions:
        assert path.with_suffix(".sql").is_file()
        assert path.with_suffix(".downgrade.sql").is_file()
        assert path.stem.rpartition("_")[0] in {capability.name for capability in CAPABILITIES}


def test_revisions_hold_no_functions_and_functions_stand_once() -> None:
    """A function has one text, beside its capability; it is applied by lifecycle/migrating."""
    for path in (ROOT / "migrations").rglob("*.sql"):
        assert not FUNCTION.search(path.read_text(encoding="utf-8")), relative(path)
    made: dict[str, str] = {}
    for path in sorted((ROOT / "lifecycle").rglob("*.sql")):
        assert path.name in {file for capability in CAPABILITIES for file in capability.files}, relative(path)
        text = path.read_text(encoding="utf-8")
        assert not SQL_BODY.search(text), f"{relative(path)}: a body that is no string pins what it reads"
        for name in FUNCTION.findall(text):
            overloaded = made.get(name, relative(path)) == relative(path)
            assert overloaded, f"{name} stands in {made[name]} and in {relative(path)}"
            made[name] = relative(path)


def test_no_circle_of_imports() -> None:
    """Not even one that a function hides by importing late."""
    reads: dict[str, set[str]] = {}
    for path in modules(*FOLDERS):
        name = relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        reads[name] = set(_imported(ast.parse(path.read_text(encoding="utf-8"))))
    known = {name: {other for other in found if other in reads and other != name} for name, found in reads.items()}
    list(TopologicalSorter(known).static_order())


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = ROOT / f"{node.module}.{alias.name}".replace(".", "/")
                # A module of a package, or a name in it.
                yield f"{node.module}.{alias.name}" if inside.with_suffix(".py").is_file() else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def private_modules_of_dagster(tree: ast.AST) -> Iterator[str]:
    """Those that are imported, and those that a string names."""
    for node in ast.walk(tree):
        named: list[str] = []
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = [node.value]
        yield from (name for name in named if PRIVATE_IN_DAGSTER.fullmatch(name))


def test_private_modules_of_dagster_are_imported_in_one_place() -> None:
    readers = {
        relative(path)
        for path in modules(*FOLDERS, "benchmarks", "tests")
        if any(private_modules_of_dagster(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert readers == {"resources/dagster_private.py"}


@pytest.mark.parametrize(
    ("code", "private"),
    [
        ("import dagster._core.events as events", True),
        ("from dagster._core.events import DagsterEvent", True),
        ("from dagster import _core", True),
        ("def late():\n    from dagster_webserver._graphql import app", True),
        ("importlib.import_module('dagster._core.events')", True),
        ("[sys.executable, '-m', 'dagster._daemon', 'run']", True),
        ("import dagster as dg; from dagster_webserver.cli import main", False),
        ("'look at dagster._core'", False),
    ],
)
def test_what_counts_as_private_in_dagster(code: str, private: bool) -> None:
    assert any(private_modules_of_dagster(ast.parse(code))) is private


def test_one_name_is_one_thing() -> None:
    """A class or a constant of one name in two modules of one folder tree means two things."""
    for word in ("class Finding", "ROLL_UPS", "EVENT_TABLES"):
        defined = re.compile(rf"^{word}\b(?=[:( =])", re.MULTILINE)
        found = [relative(path) for path in modules(*FOLDERS) if defined.search(path.read_text(encoding="utf-8"))]
        assert len(found) <= 1, (word, found)


def test_no_file_names_a_registry_or_a_folder_of_one_machine() -> None:
    for path in tracked_files():
        if path.name in MAY_NAME_A_REGISTRY or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            assert not REGISTRY.search(line), f"{relative(path)}:{number} names a registry: {line.strip()}"
            assert not MACHINE_PATH.search(line), (
                f"{relative(path)}:{number} names a folder of a machine: {line.strip()}"
            )
