"""A conversion in a process of its own that can be killed: `python -m tests.conversion_kill`, its order on stdin."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

from lifecycle.errors import AlreadyRunningError
from lifecycle.partitions.convert import ConversionResult, convert_table
from lifecycle.policy import EventTable, event_table
from tests.conversion_load import Deadline, convert

Process = subprocess.Popen[str]


def prepare() -> Process:
    """Start the process; it imports what it needs and waits for its order."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.conversion_kill"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def order(process: Process, url: str, table: EventTable, now: datetime, kill_at: int | None = None) -> None:
    """Let a prepared process convert, and kill itself at its progress message number `kill_at`, counted from 1."""
    assert process.stdin is not None
    process.stdin.write(json.dumps({"url": url, "table": table.name, "now": now.isoformat(), "kill_at": kill_at}))
    process.stdin.close()


def last_message_of(process: Process) -> str:
    """Wait until the process has killed itself; return the progress message at which it did."""
    assert process.stdout is not None
    said = process.stdout.read().splitlines()
    process.stdout.close()
    assert process.wait(60) == -signal.SIGKILL, f"the conversion was not killed: {said[-3:]}"
    return str(said[-1])


def rerun(url: str, table: EventTable, now: datetime) -> ConversionResult:
    """Convert again as soon as the server has noticed that the dead process is gone."""
    deadline = Deadline.after(20)
    while True:
        try:
            return convert(url, table, now)
        except AlreadyRunningError:
            assert not deadline.passed, "the lock of a killed conversion is still held after 20 s"
            time.sleep(0.05)


def main() -> None:
    what = json.load(sys.stdin)
    steps = 0

    def progress(message: str, _fraction: float) -> None:
        nonlocal steps
        steps += 1
        sys.stdout.write(message + "\n")
        sys.stdout.flush()
        if steps == what["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    convert_table(what["url"], event_table(what["table"]), now=datetime.fromisoformat(what["now"]), progress=progress)


if __name__ == "__main__":
    main()
