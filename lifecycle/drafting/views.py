"""views.yaml: views that are heavy to read, with the key they could be refreshed by, and materialized views."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import psycopg
from sqlglot.errors import SqlglotError

from lifecycle.database import Connection, rows
from lifecycle.declarations.views import KeptView
from lifecycle.drafting.entry import Entry, Remark
from lifecycle.drafting.measure import READ_ONLY, Cost, measure
from lifecycle.drafting.survey import Relation, Survey
from lifecycle.drafting.times import NOW, arrival
from lifecycle.errors import RefusedError
from lifecycle.language import _, translatable
from lifecycle.names import QualifiedName
from lifecycle.server_errors import first_line
from lifecycle.units import size_text
from lifecycle.views.catalog import read_sources
from lifecycle.views.keep import Keeping, plan_keeping

FILE: Final = "views"
ABOUT: Final = (
    "What the dashboards read. A kept view answers from a table, under its own name and by its own definition, and is "
    "at most `every` (an hour) old. A materialized view is refreshed when what it reads has changed, or at `max_age`."
)
MEASURING: Final = translatable("Reading view {name} once ({number} of {count})")
# As lifecycle refreshes beside readers: a unique index over plain columns, without a condition.
BESIDE_READERS: Final = """
select exists (select from pg_index i where i.indrelid = %s and i.indisunique and i.indisvalid and i.indpred is null
                                        and i.indexprs is null)
"""

Told = Callable[[str], None]


def heavy_views(conn: Connection, found: Survey, seconds: float, tell: Told) -> tuple[list[Entry | Remark], list[Cost]]:
    """Proposals for views, and what each cost to read, the dearest first; no view is run where `seconds` is 0."""
    views = found.of_kind("v")
    proposed: list[Entry | Remark] = []
    costs, light = [], []
    read: set[QualifiedName] = set()
    for number, view in enumerate(views, 1):
        if seconds:
            tell(_(MEASURING).format(name=view.name, number=number, count=len(views)))
        cost = measure(conn, view.name, seconds) if seconds else Cost(view.name)
        costs.append(cost)
        if cost.refused:
            proposed.append(Remark(FILE, "kept", f"{view.name} was not measured: {cost.refused}."))
        elif seconds and not cost.heavy:
            light.append(str(view.name))
        else:
            keeping = _keeping(conn, view.name)
            proposed.append(_proposed(view, cost, keeping, measured=bool(seconds)))
            read |= {source.name for source in keeping.sources} if isinstance(keeping, Keeping) else set()
    if light:
        proposed.append(Remark(FILE, "kept", f"Light to read, so left as they are: {', '.join(light)}."))
    costs.sort(key=lambda cost: (not cost.cut_off, -(cost.seconds or 0), cost.name))
    return [*proposed, *_times(found, read)], costs


def _keeping(conn: Connection, name: QualifiedName) -> Keeping | str:
    """How it would be kept, or why it cannot be."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(READ_ONLY)
            return plan_keeping(conn, name, KeptView(), ())
    except RefusedError as refused:
        return str(refused)
    except psycopg.Error as error:
        return first_line(error)
    except (SqlglotError, RecursionError):
        return "its definition cannot be read here"


def _proposed(view: Relation, cost: Cost, keeping: Keeping | str, *, measured: bool) -> Entry | Remark:
    told = cost.told if measured else "not measured"
    if isinstance(keeping, str):
        return Remark(FILE, "kept", f"{view.name} ({told}) would stay as it is: {keeping}.")
    value: dict[str, Any] = {}
    how = "computed whole each time"
    if keeping.key is not None:
        value["key"] = keeping.key.column
        how = "computed for changed keys alone"
    if keeping.moves != "never":
        how += ", and moves with the clock" if keeping.moves == "always" else ", and moves at midnight"
    return Entry(FILE, "kept", str(view.name), value, note=f"{told}; {how}")


def _times(found: Survey, read: set[QualifiedName]) -> Iterator[Entry]:
    """Tables of these views whose rows come with the present time, by an index."""
    for name in sorted(read):
        table = found.relations.get(name)
        time = arrival(table) if table is not None else None
        if time is not None and time.indexed and NOW.search(time.default):
            yield Entry(FILE, "times", str(name), time.name)


def materialized_views(conn: Connection, found: Survey) -> Iterator[Entry]:
    """Each with its sources; in force where its refresh keeps no reader waiting."""
    for view in found.of_kind("m"):
        beside = rows(conn, BESIDE_READERS, (view.oid,))[0][0]
        remarks = []
        if not beside:
            remarks.append(
                f"{view.name}: readers would wait during each refresh, since it has no unique index over plain columns."
                " Make one, or accept it."
            )
        if not view.populated:
            remarks.append(f"{view.name} was never filled: run REFRESH MATERIALIZED VIEW once.")
        if not view.ours:
            remarks.append(f"{view.name} belongs to {view.owner}: connect as that role or a member of it.")
        sure = beside and view.populated and view.ours
        note = f"{size_text(view.bytes)}; reads {_listed(_sources(conn, view.name))}"
        yield Entry(FILE, "materialized", str(view.name), {"max_age": "1 day"}, tuple(remarks), note, sure)


def _sources(conn: Connection, name: QualifiedName) -> Sequence[str]:
    try:
        with conn.transaction(force_rollback=True):
            return [str(source.name) for source in read_sources(conn, name)]
    except psycopg.Error as error:
        return [f"nobody knows what ({first_line(error)})"]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
