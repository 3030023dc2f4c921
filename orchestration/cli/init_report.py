"""What `lifecycle init` prints: a line per file, the heaviest views, what is missing or gone, and what comes next."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lifecycle.drafting.draft import Draft, DraftedFile
from lifecycle.drafting.measure import Cost
from lifecycle.language import _
from resources.variables import APPLICATION_VARIABLE

MOST_COSTS: Final = 5
MOST_NAMED: Final = 10
SLOW: Final = 0.1


def print_draft(draft: Draft, folder: Path, written: Sequence[str], console: Console) -> None:
    """The result for people, at most 80 columns wide where names are not longer."""
    if not draft.tables:
        told = _("The database holds no table of an application: the draft declares nothing yet.")
        console.print(told, soft_wrap=True)
    console.print(_files(draft.files))
    for line in _lines(draft, written):
        console.print(escape(line), soft_wrap=True)
    console.print("[bold]" + _("Next") + "[/]")
    console.print(escape(_next(folder)), soft_wrap=True)


def _files(files: Sequence[DraftedFile]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(_("file"))
    for heading in (_("in force"), _("proposed"), _("new"), _("gone")):
        table.add_column(heading, justify="right")
    for file in files:
        new = str(len(file.new)) if file.existed else ""
        table.add_row(f"{file.name}.yaml", str(file.in_force), str(file.proposed), new, str(len(file.gone) or ""))
    return table


def _lines(draft: Draft, written: Sequence[str]) -> Iterator[str]:
    yield from _slow(draft.costs)
    for file in draft.files:
        if file.new:
            yield _("New in {file}: {names}").format(file=f"{file.name}.yaml", names=_listed(file.new))
        if file.gone:
            told = _("Named in {file} and gone from the database: {names}")
            yield told.format(file=f"{file.name}.yaml", names=_listed(file.gone))
    for privilege in draft.missing[:MOST_NAMED]:
        yield _("Not seen for want of a privilege: {privilege}").format(privilege=_(privilege))
    if (rest := len(draft.missing) - MOST_NAMED) > 0:
        yield _("Not seen for want of a privilege: {count} more").format(count=rest)
    if not written:
        yield _("Every file is as it was.")


def _slow(costs: Sequence[Cost]) -> Iterator[str]:
    slow = [cost for cost in costs if cost.cut_off or (cost.seconds or 0) >= SLOW]
    for cost in slow[:MOST_COSTS]:
        if cost.cut_off:
            yield _("{view}: did not end in time").format(view=cost.name)
        else:
            told = _("{view}: {seconds:.1f} s for {rows:,} rows")
            yield told.format(view=cost.name, seconds=cost.seconds, rows=cost.rows)
    if len(slow) > MOST_COSTS:
        yield _("{count} more views took longer than {seconds} s").format(count=len(slow) - MOST_COSTS, seconds=SLOW)


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMED
    told = _(", ").join(names[:MOST_NAMED])
    return _("{names} and {count} more").format(names=told, count=rest) if rest > 0 else told


def _next(folder: Path) -> str:
    return "\n".join(
        [
            _("Read the files of {folder}, and take the `# ` away from the lines that shall be in force. Then:").format(
                folder=folder
            ),
            f"  export {APPLICATION_VARIABLE}={quote(str(folder))}",
            "  lifecycle check",
            "  lifecycle plan",
            "  lifecycle migrate",
        ]
    )
