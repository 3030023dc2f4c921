"""The wheel as an adopter has it: built, installed into an empty environment with the lock's versions."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestration.shipped import PROJECT

UV = Path(sys.executable).with_name("uv")
# Of this machine, nothing of this project's.
KEPT_VARIABLES = ("HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE")


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """What it prints; the test fails with all of it where the command does."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """The wheel, made as `uv build` makes it; by the environment's own back end, which needs no index."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=PROJECT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@dataclass(frozen=True)
class Installed:
    """The environment, the wheel in it, and a folder that knows nothing of the project."""

    bin: Path
    wheel: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a shell in which the environment is active and nothing else is."""
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        return {**kept, "PATH": f"{self.bin}:/usr/bin:/bin", "COLUMNS": "200", "DAGSTER_TELEMETRY_DISABLED": "1"}

    def program(self, name: str) -> Path:
        return self.bin / name

    def try_(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the folder."""
        program, *arguments = command
        return subprocess.run(
            [self.program(program), *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    def run(self, *command: str, **variables: str) -> str:
        """The same; the test fails where the program does."""
        done = self.try_(*command, **variables)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


def install(folder: Path, *extras: str) -> Installed:
    """Build and install; the packages come from uv's cache where `make install` left them."""
    environment = folder / "environment"
    wheel = build_wheel(folder / "dist")
    chosen = [word for extra in extras for word in ("--extra", extra)]
    run(UV, "venv", "--quiet", "--python", sys.executable, environment, cwd=folder)
    sync = ("sync", "--quiet", "--frozen", "--no-dev", "--no-install-project")
    run(UV, *sync, *chosen, cwd=PROJECT, env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(environment)})
    into = ("--quiet", "--python", str(environment / "bin/python"))
    run(UV, "pip", "install", *into, "--no-deps", "--offline", wheel, cwd=folder)
    # What the wheel says that it needs is there, and nothing contradicts it.
    run(UV, "pip", "check", *into, cwd=folder)
    empty = folder / "empty"
    empty.mkdir()
    return Installed(environment / "bin", wheel, empty)
