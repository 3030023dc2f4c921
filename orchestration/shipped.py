"""The files that go with the code: in a clone at its root, in an installed package inside `orchestration/`.

`pyproject.toml` puts them into the wheel.
"""

from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parent
# The clone; of an installed package the folder of all packages.
PROJECT: Final = PACKAGE.parent


def shipped(name: str) -> Path:
    """Where the file, or folder, of that name lies."""
    packed = PACKAGE / name
    return packed if packed.exists() else PROJECT / name


def is_clone() -> bool:
    """Whether this code runs from a clone of the project, with its documents and tests beside it."""
    return (PROJECT / "pyproject.toml").is_file()


DAGSTER_YAML: Final = shipped("dagster.yaml")
WORKSPACE: Final = shipped("workspace.yaml")
# The declarations of the application whose replica the sandbox holds.
SANDBOX_APPLICATION: Final = shipped("application")
