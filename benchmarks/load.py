"""The same load for every candidate, and what it felt while an operation ran."""

import multiprocessing
import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.clients import START_PATIENCE, KnownHour, Read, Signals, Write, read_table, read_view, write
from lifecycle.errors import SandboxError

WRITERS: Final = 4
WARM_UP: Final = 4.0
# After the operation the load goes on: what queued up behind its last lock belongs to it.
TAIL: Final = 1.0


@dataclass(frozen=True)
class Effect:
    """What writers and readers felt between two moments. Milliseconds, from the moment a statement was due.

    `stall_at` is when the statement with the longest wait was due, in seconds after the first moment. `insert_ms` and
    `update_ms` are the longest single statements, `unmatched_updates` those that found no row to update.
    """

    writes: int
    stall_ms: float
    stall_at: float
    p99_ms: float
    insert_ms: float
    update_ms: float
    unmatched_updates: int
    reads: int
    short_reads: int
    view_reads: int
    wrong_view_reads: int
    errors: dict[str, int]


@dataclass(frozen=True)
class LoadRecord:
    """Every statement of a load."""

    writes: tuple[Write, ...]
    reads: tuple[Read, ...]

    def effect(self, first: float, last: float) -> Effect:
        """What was due or under way between two moments of the monotonic clock, and in the second after."""
        writes = [entry for entry in self.writes if entry.done >= first and entry.due <= last + TAIL]
        reads = [entry for entry in self.reads if entry.done >= first and entry.due <= last + TAIL]
        waits = sorted((entry.done - entry.due) * 1000 for entry in writes)
        worst = max(writes, key=lambda entry: entry.done - entry.due, default=None)
        table = [entry for entry in reads if entry.kind == "table"]
        view = [entry for entry in reads if entry.kind == "view"]
        failures = [entry.error for entry in writes] + [entry.error for entry in reads]
        return Effect(
            writes=len(writes),
            stall_ms=round(waits[-1], 1) if waits else 0.0,
            stall_at=round(worst.due - first, 2) if worst else 0.0,
            p99_ms=round(waits[int(0.99 * (len(waits) - 1))], 1) if waits else 0.0,
            insert_ms=_longest(writes, "insert"),
            update_ms=_longest(writes, "update"),
            unmatched_updates=sum(w.kind == "update" and w.error is None and w.rows == 0 for w in writes),
            reads=len(table),
            short_reads=sum(entry.short > 0 for entry in table),
            view_reads=len(view),
            wrong_view_reads=sum(entry.short > 0 for entry in view),
            errors=dict(Counter(error for error in failures if error)),
        )


def _longest(writes: Sequence[Write], kind: str) -> float:
    return round(max(((w.done - w.sent) * 1000 for w in writes if w.kind == kind), default=0.0), 1)


class Load:
    """Four writers, and with known hours two readers, each in its own process, from `with` to `finish()`."""

    def __init__(self, url: str, hours: Sequence[KnownHour] = ()) -> None:
        # A forked child would share the parent's database connections.
        context = multiprocessing.get_context("spawn")
        lives: list[tuple[Callable[..., None], tuple[Any, ...]]] = [(write, (url, n)) for n in range(WRITERS)]
        if hours:
            lives += [(read_table, (url, tuple(hours))), (read_view, (url,))]
        self._signals = Signals(context.Barrier(len(lives) + 1), context.Event(), context.Queue())
        self._processes = [
            context.Process(target=life, args=(*arguments, self._signals), daemon=True) for life, arguments in lives
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        self._signals.ready.wait(START_PATIENCE)
        time.sleep(WARM_UP)
        return self

    def finish(self) -> LoadRecord:
        """Let the load run on for a moment, stop it and collect its record."""
        time.sleep(2 * TAIL)
        self._signals.stop.set()
        records: list[Write | Read] = []
        for _ in self._processes:
            records += self._next_record()
        return LoadRecord(
            writes=tuple(entry for entry in records if isinstance(entry, Write)),
            reads=tuple(entry for entry in records if isinstance(entry, Read)),
        )

    def _next_record(self) -> Sequence[Write | Read]:
        while True:
            try:
                return self._signals.records.get(timeout=1.0)
            except queue.Empty:
                if any(process.exitcode for process in self._processes):
                    raise SandboxError("a client of the load died; its traceback is above") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes:
            if kind is not None:
                process.terminate()
            process.join()
