"""One kept view given back, the others left as they are."""

from collections.abc import Callable
from time import sleep as wait
from typing import Final

from lifecycle.declarations.application import Application
from lifecycle.migrating.foreign import refuse_a_foreign_database
from lifecycle.migrating.migrate import Migration, migrating_session, patiently
from lifecycle.migrating.state import refuse_an_older_release
from lifecycle.views.give_back import give_back
from lifecycle.views.statistics import named_statistic

FILE: Final = "views.yaml"


def give_back_view(
    url: str, application: Application, name: str, *, sleep: Callable[[float], None] = wait
) -> Migration:
    """Let one view compute its rows itself again; a line tells that its declaration has to go, too.

    Raises RefusedError when no such view is kept.
    """
    changes: list[str] = []
    with migrating_session(url) as conn:
        refuse_an_older_release(conn)
        refuse_a_foreign_database(conn, application)
        view = named_statistic(conn, name)
        patiently(lambda: changes.extend(give_back(conn, [view])), sleep)
    if view in application.views.kept:
        changes.append(f"{FILE}: take {view} out of `kept`, or the next `lifecycle migrate` keeps it again")
    return Migration(tuple(changes))
