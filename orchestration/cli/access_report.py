"""What `lifecycle access` prints: tables for people, JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from lifecycle.access.abbreviated import GUARDS, LEGEND, Notes, short_object
from lifecycle.access.matrix import SHOWN_ROLES, MatrixRow
from lifecycle.access.report import AccessReport
from lifecycle.language import _

NOTHING: Final = "[dim]-[/]"
# Of a role whose name is longer than anything that stands below it.
SHORT_ROLES: Final = {"service_role": "service"}


def matrix_tables(matrix: Sequence[MatrixRow]) -> list[RenderableType]:
    """One line per object, one column per role, in letters that are explained below; it fits 80 columns."""
    notes = Notes()
    table = Table(
        title=_("Who may do what with which rows"), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column(_("object"), overflow="fold")
    for heading in (_("by"), *(SHORT_ROLES.get(role, role) for role in SHOWN_ROLES)):
        table.add_column(heading, overflow="fold", no_wrap=True)
    for row in matrix:
        cells = (escape(notes.cell(row.access.get(role, ""))) or NOTHING for role in SHOWN_ROLES)
        table.add_row(escape(short_object(row)), GUARDS.get(row.guarded, row.guarded), *cells)
    return [table, "", *map(_, LEGEND), *map(escape, notes.lines)]


def _told(title: str, found: Sequence[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(_("object"), overflow="fold")
    table.add_column(_("how"), overflow="fold")
    for name, told in found:
        table.add_row(escape(name), escape(told))
    return table


def report_tables(report: AccessReport) -> list[RenderableType]:
    """What is not as it should be, a table per kind, and a line when nothing is."""
    found = {
        _("Not as declared: `lifecycle migrate` changes it"): [
            (d.object, _(", ").join(map(_, d.told))) for d in report.differences
        ],
        _("Of this project's own, and open"): [(e.object, e.told) for e in report.own_exposures],
        _("Changed by the application: `lifecycle access accept` takes it"): [
            (d.object, d.told) for d in report.drifts
        ],
        _("Reached by the API and not declared"): [(e.object, e.told) for e in report.undeclared],
        _("Open to anybody, as the application has it"): [(e.object, e.told) for e in report.open_to_anybody],
    }
    tables: list[RenderableType] = [_told(title, entries) for title, entries in found.items() if entries]
    return tables or [_("Everything is as declared and as accepted.")]


def report_json(report: AccessReport) -> str:
    """The report for programs: the fields of `AccessReport`."""
    return json.dumps(asdict(report), indent=2, ensure_ascii=False)
