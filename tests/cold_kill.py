"""Moves of cold months in processes that kill themselves: `python -m tests.cold_kill`, orders on stdin.

The process imports what a move needs and forks for each order, so that one more costs no start of Python more.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lifecycle.cold import manifest, move
from lifecycle.cold.local_storage import LocalStorage
from lifecycle.cold.upkeep import keep_up
from tests.cold import EVENTS, local_storage, move_all, now

ENDED: Final = "ended "
# Where a move can be cut off: what is called there, on which object.
PLACES: Final[dict[str, tuple[Any, str]]] = {
    "export": (move._Move, "export"),
    "plan_file": (manifest, "plan_file"),
    "put": (LocalStorage, "put"),
    "file_stored": (manifest, "file_stored"),
    "verify": (move._Move, "verify"),
    "fetch": (LocalStorage, "fetch"),
    "commit": (move._Move, "commit"),
    # In the transaction that takes the month out of the database.
    "leave": (move._Move, "_leave"),
    "remove": (move, "remove_retired"),
}
WHEN: Final = ("before", "after")


@dataclass(frozen=True)
class Executioner:
    """The process that starts moves, one at a time, and sees to their end."""

    process: subprocess.Popen[str]

    def move(self, url: str, folder: Path, place: str, when: str) -> int:
        """Move what is due, and kill the process before or after it calls `place`; its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"url": url, "folder": str(folder), "place": place, "when": when}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line.startswith(ENDED), "the process that starts moves is gone"
        return int(line.removeprefix(ENDED))


@contextmanager
def executioner() -> Iterator[Executioner]:
    command = [sys.executable, "-m", "tests.cold_kill"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Executioner(process)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def carry_out(order: dict[str, str]) -> None:
    holder, name = PLACES[order["place"]]
    real: Callable[..., Any] = getattr(holder, name)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if order["when"] == "before":
            die()
        done = real(*args, **kwargs)
        die()
        return done

    setattr(holder, name, deadly)
    storage = local_storage(Path(order["folder"]))
    move_all(order["url"], storage)
    keep_up(order["url"], EVENTS, storage, now())


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            carry_out(json.loads(line))
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{ENDED}{code}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
