"""The cases of a spike: each on its own copy of one filled database whose views are kept."""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from benchmarks.data import copy_database
from benchmarks.declared import APPLICATION
from benchmarks.spike_reads import KINDS, Asked, Felt, Readers, felt
from benchmarks.spike_work import JOBS, OLD_MESSAGES
from lifecycle.database import connect_directly
from lifecycle.migrating.migrate import upgrade
from lifecycle.pacing import Pacing
from sandbox.application import create_application_database, drop_database
from sandbox.generate import generate
from sandbox.server import SUPERUSER, Server

TEMPLATE: Final = "spike_template"
DATABASE: Final = "spike"


@dataclass(frozen=True)
class Case:
    """One case: seconds that were measured, pieces of work that the job did in them and what they came to (rows,
    partitions, people), what each kind of read felt."""

    name: str
    rate: float
    seconds: float
    pieces: int
    work: int
    felt: dict[str, Felt]


def measure(server: Server, name: str, rate: float, seconds: float, share: float, asked: Asked) -> Case:
    """Run one case on a fresh copy: until the time is over, or the job has nothing left to do.

    AssertionError where the job did nothing: then it was an idle database that was measured.
    """
    url = copy_database(server, TEMPLATE, DATABASE)
    job = JOBS.get(name)
    pacing = Pacing(lambda: share)
    pieces = work = 0
    with Readers(url, rate, asked) as readers, job(url, pacing) if job else nullcontext() as piece:
        first = time.monotonic()
        if piece is None:
            time.sleep(seconds)
        else:
            more = True
            while more and time.monotonic() - first < seconds:
                done = piece()
                more = done.more
                pieces += 1
                work += done.work
        last = time.monotonic()
        reads = readers.finish()
    drop_database(server, DATABASE)
    assert work or not job, f"{name}: nothing was done in {last - first:.0f} s"
    found = {kind: felt(reads, kind, first, last) for kind in KINDS}
    return Case(name, rate, round(last - first, 1), pieces, work, found)


def prepare(server: Server, scale: str, messages: int) -> str:
    """The template: rows, kept views, and messages for the archive; its URL."""
    url = create_application_database(server, TEMPLATE)
    generate(url, scale, now=datetime.now(UTC), progress=lambda _table, _rows: None)
    with connect_directly(server.url(TEMPLATE, user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute(OLD_MESSAGES.encode(), {"messages": messages})
    upgrade(url, APPLICATION)
    with connect_directly(server.url(TEMPLATE, user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute("vacuum (analyze)")
        admin.execute("checkpoint")
    return url
