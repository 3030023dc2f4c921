"""Signs of life: what the process of a run leaves in Dagster's own storage while it lives.

In Dagster's storage, not in the application's database: while that is away, living runs must not look dead. Through
the instance's key-value store, which every storage and every launcher offers, on any number of machines. One small
row a run stays behind.
"""

import json
import logging
import os
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import dagster as dg

BEAT_SECONDS: Final = 10.0
PREFIX: Final = "lifecycle/sign_of_life/"

logger = logging.getLogger(__name__)


def give_sign(instance: dg.DagsterInstance, run_id: str) -> None:
    """Say that this process still works on the run."""
    sign = {
        "at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    instance.daemon_cursor_storage.set_cursor_values({f"{PREFIX}{run_id}": json.dumps(sign)})


def last_signs(instance: dg.DagsterInstance, run_ids: Collection[str]) -> Mapping[str, str]:
    """The last sign of each run that gave one. Only whether it changes means something: clocks of machines differ."""
    found = instance.daemon_cursor_storage.get_cursor_values({f"{PREFIX}{run_id}" for run_id in run_ids})
    return {key.removeprefix(PREFIX): sign for key, sign in found.items()}


def described(sign: str | None) -> str:
    """A sign for people."""
    if sign is None:
        return "it never gave one"
    told = json.loads(sign)
    return f"the last one at {datetime.fromisoformat(told['at']):%H:%M:%S} UTC, pid {told['pid']} on {told['host']}"


@contextmanager
def signs_of_life(instance: dg.DagsterInstance, run_id: str, *, every: float = BEAT_SECONDS) -> Iterator[None]:
    """Give signs from a thread of its own, whatever the run waits for; they end with the process, however it ends."""
    ended = threading.Event()

    def beat() -> None:
        while True:
            try:
                give_sign(instance, run_id)
            except Exception as error:
                # Dagster's storage is away: then the sensor that looks for signs cannot look either.
                logger.warning("no sign of life of run %s: %s", run_id, type(error).__name__)
            if ended.wait(every):
                return

    thread = threading.Thread(target=beat, name=f"signs of life of {run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=every)
