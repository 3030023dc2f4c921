"""Conversions in processes of their own that can be killed: `python -m tests.conversion_kill`, orders on stdin.

The process imports what a conversion needs and forks for each order, so that a conversion more costs no start of
Python more. It has one thread and no session of its own: nothing that a fork would tear in two.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lifecycle.errors import AlreadyRunningError
from lifecycle.partitions.convert import ConversionResult, convert_table
from lifecycle.partitions.tables import MonthlyTable
from tests.conversion_load import Deadline, convert
from tests.declared import event_table

ENDED = "ended "


@dataclass(frozen=True)
class Executioner:
    """The process that starts conversions, one at a time, and sees to their end."""

    process: subprocess.Popen[str]

    def convert(
        self,
        url: str,
        table: MonthlyTable,
        now: datetime,
        *,
        kill_at: int | None = None,
        kill_after: float | None = None,
    ) -> tuple[str, int]:
        """Convert, and kill it at progress message `kill_at`, counted from 1, or after `kill_after` seconds.

        Returns the last progress message and the exit code (negative: the signal that ended it).
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        what = {
            "url": url,
            "table": table.name,
            "months_ahead": table.months_ahead,
            "now": now.isoformat(),
            "kill_at": kill_at,
            "kill_after": kill_after,
        }
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        message = ""
        while not (line := self.process.stdout.readline().rstrip("\n")).startswith(ENDED):
            assert line, "the process that starts conversions is gone"
            message = line
        return message, int(line.removeprefix(ENDED))


@contextmanager
def executioner() -> Iterator[Executioner]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.conversion_kill"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Executioner(process)


def rerun(url: str, table: MonthlyTable, now: datetime) -> ConversionResult:
    """Convert again as soon as the server has noticed that the dead process is gone."""
    deadline = Deadline.after(20)
    while True:
        try:
            return convert(url, table, now)
        except AlreadyRunningError:
            assert not deadline.passed, "the lock of a killed conversion is still held after 20 s"
            time.sleep(0.05)


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def carry_out(what: dict[str, Any]) -> None:
    steps = 0

    def progress(message: str, _fraction: float) -> None:
        nonlocal steps
        steps += 1
        tell(message)
        if steps == what["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    table = replace(event_table(what["table"]), months_ahead=what["months_ahead"])
    convert_table(what["url"], table, now=datetime.fromisoformat(what["now"]), progress=progress)


def main() -> None:
    for line in sys.stdin:
        what = json.loads(line)
        child = os.fork()
        if not child:
            carry_out(what)
            os._exit(0)
        if what["kill_after"] is not None:
            time.sleep(what["kill_after"])
            os.kill(child, signal.SIGKILL)
        tell(f"{ENDED}{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")


if __name__ == "__main__":
    main()
