"""Dagster's web server and daemon as processes of ours: started together, watched, stopped together."""

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

from lifecycle.errors import SandboxError
from orchestration.logs import rotate_logs
from orchestration.shipped import WORKSPACE
from resources.dagster_private import DAEMON
from sandbox.supervise import SupervisedProcess, supervised

HOST: Final = "127.0.0.1"
PATIENCE_SECONDS: Final = 180.0
LOG_LINES: Final = 15


@dataclass(frozen=True)
class Dagster:
    """Where the UI answers, and the two processes by name."""

    url: str
    processes: Mapping[str, SupervisedProcess]


def require_free_port(port: int, host: str = HOST) -> None:
    """SandboxError when another program listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SandboxError(
                f"port {port} on {host} cannot be used for Dagster's UI ({error.strerror}); "
                "stop the program that listens there, or choose another one with --port"
            ) from error


def raise_if_dead(processes: Mapping[str, SupervisedProcess]) -> None:
    """SandboxError with the end of its log when one of them has ended by itself."""
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


@contextmanager
def running_dagster(port: int, folder: Path, environment: Mapping[str, str], host: str = HOST) -> Iterator[Dagster]:
    """Both processes with their logs in `folder`, stopped afterwards.

    SandboxError when the port is taken, one of them ends by itself, or the UI does not answer.
    """
    require_free_port(port, host)
    url = f"http://{host}:{port}"
    commands = {
        "dagster-webserver": ["dagster_webserver", "-h", host, "-p", str(port), "-w", str(WORKSPACE)],
        "dagster-daemon": [DAEMON, "run", "-w", str(WORKSPACE)],
    }
    processes: dict[str, SupervisedProcess] = {}
    try:
        for name, command in commands.items():
            processes[name] = supervised(
                [sys.executable, "-m", *command],
                env=environment,
                # What a run imports must not depend on where somebody stood who started it.
                cwd=folder,
                log=folder / f"{name}.log",
                stop_signal=signal.SIGTERM,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _answers(f"http://{HOST}:{port}/server_info"):
            raise_if_dead(processes)
            if time.monotonic() > deadline:
                raise SandboxError(f"Dagster's UI did not answer on {url}; see {folder / 'dagster-webserver.log'}")
            time.sleep(0.3)
        yield Dagster(url, processes)
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(SupervisedProcess.stop, processes.values()))


def watch(processes: Mapping[str, SupervisedProcess], folder: Path) -> None:
    """Keep their logs short until Ctrl-C; SandboxError when one of them ends by itself."""
    try:
        while True:
            raise_if_dead(processes)
            rotate_logs(folder)
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end us as Ctrl-C does: everything that was started is stopped."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
