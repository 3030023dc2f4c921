"""Dagster's web server and daemon beside the demo's database."""

import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from rich.console import Console

from lifecycle.errors import SandboxError
from orchestration.demo.progress import step
from sandbox.supervise import SupervisedProcess, supervised

PROJECT: Final = Path(__file__).resolve().parents[2]
WORKSPACE: Final = PROJECT / "workspace.yaml"
HOST: Final = "127.0.0.1"
PATIENCE_SECONDS: Final = 180.0
LOG_LINES: Final = 15


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


def _watch(processes: Mapping[str, SupervisedProcess]) -> None:
    try:
        while True:
            _raise_if_dead(processes)
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


def serve(port: int, folder: Path, environment: Mapping[str, str], console: Console) -> None:
    """Run Dagster's UI and daemon until Ctrl-C; SandboxError when the port is taken or either ends by itself."""
    url = f"http://{HOST}:{port}"
    commands = {
        "dagster-webserver": ["dagster_webserver", "-h", HOST, "-p", str(port), "-w", str(WORKSPACE)],
        "dagster-daemon": ["dagster._daemon", "run", "-w", str(WORKSPACE)],
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
            f"\nDagster's UI is at [bold]{url}[/], schedules and sensors are running. Ctrl-C stops everything."
        )
        _watch(processes)
    finally:
        if processes:
            with step(console, "stop Dagster"), ThreadPoolExecutor() as pool:
                list(pool.map(SupervisedProcess.stop, processes.values()))
