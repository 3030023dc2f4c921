"""What runs beside the demo's database: its own Slack, and Dagster's web server and daemon."""

import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from lifecycle.errors import SandboxError
from orchestration.dagster_processes import PATIENCE_SECONDS, raise_if_dead, running_dagster, watch
from orchestration.demo.progress import step
from orchestration.shipped import PROJECT
from resources.variables import BASE_URL_VARIABLE, CHANNEL_VARIABLE, TOKEN_VARIABLE
from sandbox.slack_server import CHANNEL_ID
from sandbox.supervise import SupervisedProcess, supervised

SLACK_TOKEN: Final = "xoxb-demo"  # noqa: S105 - the demo's Slack takes any
SLACK_ANSWER: Final = re.compile(r"^the channel: (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class SlackService:
    """The demo's Slack: a process of its own, with a page for people at `url`."""

    process: SupervisedProcess
    url: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment that makes every message go here, whatever the user's own names."""
        return {TOKEN_VARIABLE: SLACK_TOKEN, CHANNEL_VARIABLE: CHANNEL_ID, BASE_URL_VARIABLE: f"{self.url}api/"}


@contextmanager
def running_slack(folder: Path, environment: Mapping[str, str], console: Console) -> Iterator[SlackService]:
    """The demo's Slack on a free port, ended afterwards; SandboxError when it does not start."""
    log = folder / "slack.log"
    log.unlink(missing_ok=True)  # an earlier demo's address
    with step(console, "start a Slack of our own"):
        process = supervised([sys.executable, "-m", "sandbox.slack_server", "0"], env=environment, cwd=PROJECT, log=log)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := SLACK_ANSWER.search(log.read_text())):
            raise_if_dead({"sandbox.slack_server": process})
            if time.monotonic() > deadline:
                raise SandboxError(f"the demo's Slack did not start; see {log}")
            time.sleep(0.05)
        yield SlackService(process, found[1])
    finally:
        process.stop()


def serve(port: int, folder: Path, environment: Mapping[str, str], slack: SlackService, console: Console) -> None:
    """Run Dagster's UI and daemon until Ctrl-C; SandboxError when the port is taken or a process ends by itself."""
    with ExitStack() as stack:
        with step(console, "start Dagster"):
            dagster = stack.enter_context(running_dagster(port, folder, environment))
        console.print(
            f"\nDagster's UI is at [bold]{dagster.url}[/], schedules and sensors are running.\n"
            f"The demo's Slack is at [bold]{slack.url}[/]\nCtrl-C stops everything.",
            highlight=False,
        )
        watch({**dagster.processes, "sandbox.slack_server": slack.process}, folder)
        console.print("Stopping Dagster ...")
