"""An archive run in a process of its own that kills itself: `python -m tests.archive_kill URL NOW WHERE`."""

import os
import signal
import subprocess
import sys
from datetime import datetime

from lifecycle.archive import move, read_ahead
from tests.archived import archive as run

# In the third batch between reading and moving, while the second may be moving; and after the moving statement of the
# second before its commit.
PLACES = {"while packing": (read_ahead, "pack", 250), "before the commit": (move, "_move", 2)}


def killed(url: str, now: datetime, where: str) -> None:
    """Run until the process is dead."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.archive_kill", url, now.isoformat(), where], check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL


def main() -> None:
    url, now, where = sys.argv[1:]
    module, name, last = PLACES[where]
    original, calls = getattr(module, name), 0

    def deadly(*args: object) -> object:
        nonlocal calls
        calls += 1
        result = original(*args)
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, deadly)
    run(url, datetime.fromisoformat(now))


if __name__ == "__main__":
    main()
