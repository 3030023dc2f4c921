"""A worker that goes away: `python -m tests.erasure_kill URL STEP` erases what waits and dies by signal 9 after STEP.

The step's transaction is committed; for a step that ends in `!` it is not. With a third word, `server`, the server
process behind it dies first, and PostgreSQL ends all sessions and recovers.
"""

import os
import signal
import sys

from lifecycle.database import Connection, connect
from tests.erasing import claim, finish, step

STEPS = ("claim", "collect", "erase", "sign_in_users", "refresh", "search", "conclude")


def die(conn: Connection) -> None:
    if sys.argv[3:] == ["server"]:
        os.kill(conn.info.backend_pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def work(conn: Connection, last: str) -> None:
    """Steps up to `last`, then the end."""
    batch = claim(conn)
    if last == "claim":
        die(conn)
    for name in STEPS[1:]:
        dies = last.rstrip("!") == name
        if dies and last.endswith("!"):
            conn.autocommit = False
        if name in ("search", "refresh", "sign_in_users", "conclude"):
            finish(conn, batch, (name,))
        else:
            step(conn, batch, name)
        if dies:
            die(conn)


if __name__ == "__main__":
    with connect(sys.argv[1]) as session:
        work(session, sys.argv[2])
