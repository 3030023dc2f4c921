"""A view breaks, stays broken and is mended, and what people hear of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import dagster as dg

from lifecycle.database import connect
from orchestration.demo.channel import Message, read_channel
from orchestration.demo.runs import Runner
from resources.variables import URL_VARIABLE
from sandbox.play import BREAKABLE_VIEW, break_a_view, mend_the_view

JOB: Final = "refresh_analytics_hourly"


@dataclass(frozen=True)
class Act:
    """One run of the job: what was done before it, how it ended, and the channel afterwards."""

    what: str
    run: dg.ExecuteInProcessResult
    channel: tuple[Message, ...]


@dataclass(frozen=True)
class Play:
    """All acts in order, and the channel before them."""

    before: tuple[Message, ...]
    acts: tuple[Act, ...]

    def news(self, act: Act) -> list[tuple[str, Message]]:
        """What the channel shows since the act before: ("new" or "edited", message)."""
        place = self.acts.index(act)
        known = {message.ts: message for message in (self.acts[place - 1].channel if place else self.before)}
        return [
            ("edited" if message.ts in known else "new", message)
            for message in act.channel
            if known.get(message.ts) != message
        ]

    @property
    def as_expected(self) -> bool:
        """Twice broken, then mended; one message that it fails, one that it works again."""
        heard = [[(how, message.kind) for how, message in self.news(act)] for act in self.acts]
        return [act.run.success for act in self.acts] == [False, False, True] and heard == [
            [("new", "failure")],
            [("edited", "failure")],
            [("edited", "failure"), ("new", "recovery")],
        ]


@contextmanager
def _broken(url: str) -> Iterator[None]:
    """One event that the view cannot read, removed afterwards.

    Each in a session of its own: PostgreSQL tells of a session's changes when it ends, else after some seconds, and a
    view whose sources seem unchanged is left alone.
    """
    with connect(url) as conn:
        event = break_a_view(conn)
    try:
        yield
    finally:
        with connect(url) as conn:
            mend_the_view(conn, event)


def play(runner: Runner, variables: Mapping[str, str]) -> Play:
    """Break the view, refresh twice, mend it, refresh again; after each run the sensors look once."""

    def act(what: str) -> Act:
        run = runner.run(JOB, note=f": {what}")
        runner.look()
        return Act(what, run, read_channel(variables, conn))

    url = variables[URL_VARIABLE]
    with connect(url) as conn:
        runner.look()
        before = read_channel(variables, conn)
        with _broken(url):
            acts = [act(f"{BREAKABLE_VIEW} is broken"), act("it is still broken")]
        acts.append(act("it is mended"))
    return Play(before, tuple(acts))
