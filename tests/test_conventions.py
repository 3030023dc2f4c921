"""The manner of the code base, as far as a machine can tell."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("orchestration", "assets", "resources", "sensors", "lifecycle", "migrations", "sandbox")
DAGSTER_FOLDERS = ("orchestration", "assets", "resources", "sensors")
ENVIRONMENT_READERS = {"orchestration/definitions.py", "orchestration/cli/session.py"}
LONGEST_FILE = 300

# Lock files name the registry that they were made from; everything else must run anywhere.
MAY_NAME_A_REGISTRY = {"uv.lock"}
REGISTRY = re.compile(r"\b(pypi\.org|files\.pythonhosted\.org|index-url|extra-index-url|UV_INDEX|/simple/?\b)")
# An absolute path below a folder that only one machine has; a part of a longer path or of a URL is none.
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(work|root|home|Users)/[A-Za-z_]\w*")
TEXT_SUFFIXES = {".py", ".sql", ".md", ".toml", ".yaml", ".yml", ".ini", ".json", ".lock", ".cfg", ".txt", ""}
# What Dagster alone needs: checks over all stems, pictures, units, the application's tables as external assets.
WITHOUT_LOGIC = {
    "__init__",
    "application",
    "charts",
    "checks",
    "erasure_chart",
    "erasure_checks",
    "pictures",
    "progress",
    "review_chart",
    "schema_snapshot",
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


def test_an_asset_file_has_its_logic_under_the_same_stem() -> None:
    stems = {path.stem for path in (ROOT / "lifecycle").iterdir() if not path.name.startswith("_")}
    for path in (ROOT / "assets").glob("*.py"):
        assert path.stem in stems | WITHOUT_LOGIC, f"{relative(path)} has no lifecycle/{path.stem}"


def test_each_revision_has_its_sql_both_ways() -> None:
    for path in (ROOT / "migrations" / "versions").glob("[0-9]*.py"):
        assert path.with_suffix(".sql").is_file()
        assert path.with_suffix(".downgrade.sql").is_file()


def test_no_file_names_a_registry_or_a_folder_of_one_machine() -> None:
    for path in tracked_files():
        if path.name in MAY_NAME_A_REGISTRY or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            assert not REGISTRY.search(line), f"{relative(path)}:{number} names a registry: {line.strip()}"
            assert not MACHINE_PATH.search(line), (
                f"{relative(path)}:{number} names a folder of a machine: {line.strip()}"
            )
