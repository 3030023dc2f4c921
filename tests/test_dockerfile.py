"""Every step of deploy/docker/Dockerfile, run in an empty folder in place of an image; there is no engine here."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from lifecycle.release import release
from orchestration.cli.main import app
from orchestration.shipped import PROJECT
from tests.installed import run

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

DOCKERFILE = PROJECT / "deploy/docker/Dockerfile"
STEP = re.compile(r"^([A-Z]+) (.*)$", re.MULTILINE)
# Folders of the image; what stands elsewhere is the base image's.
OF_THE_IMAGE = re.compile(r"(?<![\w./])/(?=(?:opt|etc|var)/)")
ACCOUNT = 10001


def steps() -> list[tuple[str, str]]:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert "\\\n" not in text, "a step of several lines: STEP would cut it"
    return STEP.findall(text)


def last(instruction: str) -> str:
    return [argument for name, argument in steps() if name == instruction][-1]


class Image:
    """A folder in place of the image's root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for file in ("etc/passwd", "etc/group"):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text("root:x:0:\n")

    def placed(self, words: str) -> str:
        return OF_THE_IMAGE.sub(f"{self.root}/", words)

    def copy(self, context: Path, arguments: str) -> None:
        source, target = arguments.split()
        shutil.copytree(context / source, self.placed(target), dirs_exist_ok=True)

    def run(self, command: str) -> None:
        command = re.sub(r"^python ", f"{sys.executable} ", self.placed(command))
        if os.getuid():
            # Only root makes folders for others.
            command = re.sub(f"--(owner|group)={ACCOUNT} ", "", command)
        # The packages that it needs are those of tests/test_release.py, where they take no minutes.
        alone = os.environ | {"PIP_NO_DEPS": "1"}
        done = subprocess.run(
            ["sh", "-c", command], cwd=self.root, env=alone, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def start(self, *command: str) -> subprocess.CompletedProcess[str]:
        """With nothing of this machine's environment but the packages that the image would have."""
        environment = {
            "PATH": self.placed("/opt/lifecycle/bin"),
            "DAGSTER_HOME": self.placed(last("WORKDIR")),
            "PYTHONPATH": sysconfig.get_path("purelib"),
        }
        program = f"{environment['PATH']}/{command[0]}"
        return subprocess.run(
            [program, *command[1:]], cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )


def test_every_step_runs_and_what_they_made_works(tmp_path: Path) -> None:
    context, image = tmp_path / "context", Image(tmp_path / "image")
    context.mkdir()
    run("make", "release", f"DIST={context / 'dist'}", cwd=PROJECT)
    for instruction, arguments in steps():
        if instruction == "COPY":
            image.copy(context, arguments)
        elif instruction == "RUN":
            image.run(arguments)
    shutil.rmtree(context)
    assert image.start("lifecycle", "--version").stdout == f"lifecycle {release()}\n"
    home = Path(image.placed(last("WORKDIR")))
    assert home.stat().st_uid == (os.getuid() or ACCOUNT)
    assert home.stat().st_mode & 0o777 == 0o750
    made = image.start("lifecycle", "home")
    assert f"{home}/dagster.yaml: written" in made.stdout, made.stderr
    assert f"lifecycle:x:{ACCOUNT}" in (image.root / "etc/passwd").read_text()


def test_nobody_is_root_and_what_starts_exists() -> None:
    assert last("USER") == f"{ACCOUNT}:{ACCOUNT}"
    assert [name for name, _ in steps()].index("USER") < [name for name, _ in steps()].index("CMD")
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    for words in (last("CMD"), last("HEALTHCHECK").partition("CMD ")[2]):
        program, command, *options = json.loads(words)
        assert program == "lifecycle"
        known = {option for parameter in group.commands[command].params for option in parameter.opts}
        assert {option for option in options if option.startswith("-")} <= known
