"""What runs beside the demo's database: its own Slack, and Dagster's web server and daemon."""

import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from lifecycle.errors import SandboxError
from orchestration.demo.logs import rotate_logs
from orchestration.demo.progress import step
from orchestration.demo.runs import WORKSPACE
from resources.dagster_private import DAEMON
from resources.variables import BASE_URL_VARIABLE, CHANNEL_VARIABLE, TOKEN_VARIABLE
from sandbox.slack_server import CHANNEL_ID
from sandbox.supervise import SupervisedProcess, supervised

PROJECT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "127.0.0.1"
PATIENCE_SECONDS: Final = 180.0
LOG_LINES: Final = 15
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


def require_free_port(port: int) -> None:
    """SandboxError when another program listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SandboxError(
                f"port {port} on {HOST} cannot be used for Dagster's UI ({error.strerror}); "
                "stop the program that listens there, or choose another one with --port"
            ) from error


def _raise_if_dead(processes: Mapping[str, SupervisedProcess]) -> None:
    for name, process in processes.items():
        if (code := process.poll()) is not None:
            lines = process.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            raise SandboxError(f"{name} ended with exit code {code}; the end of {process.log}:\n" + "\n".join(lines))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _watch(processes: Mapping[str, SupervisedProcess], folder: Path) -> None:
    try:
        while True:
            _raise_if_dead(processes)
            rotate_logs(folder)
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


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
            _raise_if_dead({"sandbox.slack_server": process})
            if time.monotonic() > deadline:
                raise SandboxError(f"the demo's Slack did not start; see {log}")
            time.sleep(0.05)
        yield SlackService(process, found[1])
    finally:
        process.stop()


def serve(port: int, folder: Path, environment: Mapping[str, str], slack: SlackService, console: Console) -> None:
    """Run Dagster's UI and daemon until Ctrl-C; SandboxError when the port is taken or a process ends by itself."""
    url = f"http://{HOST}:{port}"
    commands = {
        "dagster-webserver": ["dagster_webserver", "-h", HOST, "-p", str(port), "-w", str(WORKSPACE)],
        "dagster-daemon": [DAEMON, "run", "-w", str(WORKSPACE)],
    }
    # Minutes may have passed since the demo began, and another program's answer would be taken for ours.
    require_free_port(port)
    processes: dict[str, SupervisedProcess] = {}
    try:
        with step(console, "start Dagster"):
            for name, command in commands.items():
                processes[name] = supervised(
                    [sys.executable, "-m", *command],
                    env=environment,
                    cwd=PROJECT,
                    log=folder / f"{name}.log",
                    stop_signal=signal.SIGTERM,
                )
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not _answers(f"{url}/server_info"):
                _raise_if_dead(processes)
                if time.monotonic() > deadline:
                    raise SandboxError(f"Dagster's UI did not answer on {url}; see {folder / 'dagster-webserver.log'}")
                time.sleep(0.3)
        console.print(
            f"\nDagster's UI is at [bold]{url}[/], schedules and sensors are running.\n"
            f"The demo's Slack is at [bold]{slack.url}[/]\nCtrl-C stops everything.",
            highlight=False,
        )
        _watch({**processes, "sandbox.slack_server": slack.process}, folder)
    finally:
        if processes:
            with step(console, "stop Dagster"), ThreadPoolExecutor() as pool:
                list(pool.map(SupervisedProcess.stop, processes.values()))
