"""A server that ran in a data folder before: shutting down, still running, or gone without a word."""

import os
import time
from pathlib import Path

from lifecycle.errors import SandboxError


def wait_for_predecessor(data: Path, patience: float = 15.0) -> None:
    """Let a server that is just shutting down leave `data`; drop the pid file of one that crashed.

    Raises SandboxError when another server keeps running there.
    """
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + patience
    while pid_file.exists():
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        if not _runs_in(pid, data):
            # PostgreSQL itself refuses to start when any other process has taken that number since.
            pid_file.unlink(missing_ok=True)
            return
        if time.monotonic() > deadline:
            raise SandboxError(f"a server already runs in {data} (process {pid}); stop it, or use another folder")
        time.sleep(0.1)


def _runs_in(pid: int, data: Path) -> bool:
    """Whether process `pid` is a postmaster of `data`; where the system does not tell, any live process is."""
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == data.resolve()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    except OSError:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
