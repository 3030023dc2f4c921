"""What `lifecycle migrate` would do with each declared view, and why one stays as it is. Reads the catalog only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase, translatable
from lifecycle.names import QualifiedName
from lifecycle.views.archived import rows_elsewhere
from lifecycle.views.keep import MISSING, in_order, is_as_it_was, plan_keeping
from lifecycle.views.seam import Elsewhere
from lifecycle.views.statistics import StatisticStatus, statistics_status

State = Literal["kept", "to be kept", "stays", "absent"]
# How time alone changes a view, for people.
MOVES: Final = {"never": "", "daily": translatable("at midnight"), "always": translatable("all the time")}


@dataclass(frozen=True)
class KeptPlan:
    """How one declared view stands: `told` says what a migration would do, or what stands in its way.

    `moves` is never, daily or always; no comparison looks at the columns `unstable`. `seen`: the database has it as a
    kept view now, whatever the application made of it since.
    """

    name: QualifiedName
    state: State
    told: str
    key: str | None = None
    moves: str = "never"
    unstable: tuple[str, ...] = ()
    seen: bool = False


def plan_kept(conn: Connection, application: Application) -> tuple[KeptPlan, ...]:
    """Every declared view, those first that others read."""
    views = application.views
    elsewhere = rows_elsewhere(conn, application)
    known = {status.name: status for status in statistics_status(conn)}
    found = []
    for place, name in enumerate(in_order(conn, views) if views.kept else ()):
        status = known.get(name)
        if status and status.state == "kept" and is_as_it_was(conn, name, views, elsewhere, place):
            how = KeptPlan(name, "kept", "kept", status.key, status.moves, status.unstable, seen=True)
        else:
            how = _planned(conn, name, application, elsewhere, status)
        found.append(how)
    return tuple(found)


def _planned(
    conn: Connection,
    name: QualifiedName,
    application: Application,
    elsewhere: Sequence[Elsewhere],
    status: StatisticStatus | None,
) -> KeptPlan:
    declared, seen = application.views.kept[name], status is not None
    try:
        # The path that this sets goes back with it, also where a transaction is open already.
        with conn.transaction(force_rollback=True):
            keeping = plan_keeping(conn, name, declared, elsewhere)
    except RefusedError as refused:
        if str(refused) == MISSING:
            # One that may be missing is forgotten; of another its table waits until somebody says what becomes of it.
            lost = translatable("is gone: `lifecycle migrate` drops the table that it answered from")
            told = (
                MISSING
                if not seen
                else lost
                if declared.optional
                else translatable("is gone, and is not declared optional")
            )
            return KeptPlan(name, "absent", told, seen=seen)
        stays = translatable("stays as it is: {reason}")
        if status is not None and status.state == "kept":
            stays = translatable(
                "answers its owner alone, until `lifecycle migrate` lets it compute its rows itself again: {reason}"
            )
        elif seen:
            stays = translatable("was replaced by the application, and stays as it is: {reason}")
        return KeptPlan(name, "stays", Phrase(stays, reason=refused.told), seen=seen)
    if status is None:
        told = translatable("would be kept by `lifecycle migrate`")
    elif status.state == "kept":
        told = translatable(
            "it, its declaration or what it reads changed: computed whole each time, until `lifecycle migrate`"
        )
    else:
        told = translatable(
            "was replaced by the application: computed on every read, until `lifecycle migrate` keeps it again"
        )
    key = keeping.key.column if keeping.key else None
    return KeptPlan(name, "to be kept", told, key, keeping.moves, keeping.unstable, seen=seen)
