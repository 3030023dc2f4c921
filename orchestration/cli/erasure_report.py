"""What `lifecycle erasure` prints: plan, receipts and queue as tables, and a run with its progress."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lifecycle.cold.storage import ColdStorage
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.erasures.due import WaitingRequest, deletions_text
from lifecycle.erasures.proof import BrokenReceipt, PlannedStep, PlannedWords, Receipt
from lifecycle.erasures.queue import QueueStatus, enqueue, queue_status
from lifecycle.erasures.run import BatchResult, erase_batch
from lifecycle.language import _, translatable
from orchestration.cli.erasure_words import FACTS, word

# Headings of the tables; `_table` translates them.
HEADINGS: Final = (
    translatable("table"),
    translatable("column"),
    translatable("action"),
    translatable("rows"),
    translatable("requests"),
    translatable("why"),
    translatable("reason"),
    translatable("found by"),
    translatable("kind of key"),
    translatable("keys"),
    translatable("state"),
)
PLAN_HEADINGS: Final = ("table", "found by", "action", "rows", "why")
COUNTS: Final = ("rows", "requests")


def _table(title: str, *headings: str) -> Table:
    table = Table(title=_(title), title_justify="left")
    for heading in headings:
        table.add_column(_(heading), overflow="fold", justify="right" if heading in COUNTS else "left")
    return table


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else "-"


def plan_table(steps: Sequence[PlannedStep]) -> Table:
    """Every step, in its order; those without rows are dimmed."""
    table = _table(translatable("What would be done, in this order"), *PLAN_HEADINGS)
    for step in steps:
        cells = (step.table, step.found_by, word(step.action), f"{step.rows:,}", step.reason)
        table.add_row(*map(escape, cells), style="" if step.rows else "dim")
    return table


def words_table(places: Sequence[PlannedWords]) -> Table:
    """Every column in which somebody else's row would change."""
    table = _table(translatable("Others' texts"), "column", "rows")
    for place in places:
        table.add_row(escape(f"{place.table}.{place.column}"), f"{place.rows:,}")
    return table


def _chain(broken: Sequence[BrokenReceipt]) -> str:
    if not broken:
        told = _("The chain of all receipts is whole.")
        return f"[green]{told}[/]"
    told = _("The chain of receipts is broken: {faults}").format(faults="; ".join(map(str, broken)))
    return f"[red]{escape(told)}[/]"


def _receipt_tables(receipt: Receipt) -> list[RenderableType]:
    body = receipt.body
    # A hash is as long as 80 columns allow beside its name, and is copied whole.
    facts = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, told in FACTS.items():
        facts.add_row(_(told), escape(word(body[name])))
    for name, found in body["search"].items():
        parts = found.items() if isinstance(found, dict) else ()
        text = _(", ").join(f"{word(key)} {value}" for key, value in parts) or word(found)
        facts.add_row(_("search: {name}").format(name=word(name)), escape(text))
    facts.add_row(_("hash"), receipt.hash)
    facts.add_row(_("hash before it"), receipt.previous_hash or _("none: the first receipt"))
    done = _table(translatable("What was done"), "table", "action", "rows")
    for row in body["rows"]:
        done.add_row(escape(row["table"]), word(row["action"]), f"{row['rows']:,}")
    kept = _table(translatable("What may still name the person, and why"), "column", "rows", "reason")
    for row in body["exemptions"]:
        kept.add_row(escape(row["column"]), f"{row['rows']:,}", escape(row["reason"]))
    claimed = _table(translatable("Claimed and not followed"), "kind of key", "reason", "keys")
    for row in body["not_followed"]:
        claimed.add_row(row["kind"].replace("_", " "), word(row["reason"]), f"{row['keys']:,}")
    left = _table(translatable("Left where others wrote it"), "column", "rows")
    for row in body["left_with_others"]:
        left.add_row(escape(row["column"]), f"{row['rows']:,}")
    title = _("Receipt {number} of request {request}").format(number=receipt.id, request=receipt.request_id)
    return [f"[bold]{title}[/]", facts, done, kept, *(table for table in (claimed, left) if table.row_count)]


def receipts_tables(receipts: Sequence[Receipt], broken: Sequence[BrokenReceipt]) -> list[RenderableType]:
    """Each receipt as tables, and the state of the chain."""
    return [part for receipt in receipts for part in _receipt_tables(receipt)] + [_chain(broken)]


def receipts_json(receipts: Sequence[Receipt], broken: Sequence[BrokenReceipt]) -> str:
    """The same for programs."""
    document: dict[str, Any] = {
        "receipts": [asdict(receipt) for receipt in receipts],
        "chain_unbroken": not broken,
        "broken": [asdict(receipt) for receipt in broken],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def status_lines(status: QueueStatus) -> list[RenderableType]:
    """Requests by state, the counts of the weekly review, and each request that waits: its id whole, to be copied."""
    states = _table(translatable("Deletion requests"), "state", "requests")
    for state, count in status.states.items():
        states.add_row(word(state), f"{count:,}")
    if status.without_job:
        states.add_row(_("not enqueued yet"), f"{status.without_job:,}")
    counted = [_("{text}.").format(text=deletions_text(status.due))] if status.due else []
    if not status.listed:
        return [states, *counted]
    title = _("Not carried out: those that need a person, then the most urgent")
    return [
        states,
        *counted,
        "",
        f"[bold]{title}[/]",
        *(line for request in status.listed for line in _waiting(request)),
    ]


def _waiting(request: WaitingRequest) -> Iterator[str]:
    state, due = word(request.state), _moment(request.due_at)
    if request.needs_a_person:
        told = _("{state}, needs a person").format(state=state)
        state = f"[red]{told}[/]"
    yield _("{request}  {state}, due {due} UTC").format(request=request.request_id, state=state, due=due)
    told = _(": ").join(part for part in (_when(request), request.told) if part)
    if told:
        yield f"    {escape(told)}"


def _when(request: WaitingRequest) -> str:
    if request.until:
        told = _("held until {moment} UTC") if request.state == "held" else _("next try {moment} UTC")
        return told.format(moment=_moment(request.until))
    return _("held until somebody releases it") if request.state == "held" else ""


def hold_told(request_id: str, state: str, until: datetime | None, due_at: datetime) -> Iterator[str]:
    """What a hold came to, and that the deadline goes on."""
    told, due = {"request": request_id, "state": word(state)}, _moment(due_at)
    if until is None:
        yield _("Request {request} is {state} until somebody releases it.").format(**told)
        yield _("Its deadline goes on: {due} UTC.").format(due=due)
        return
    yield _("Request {request} is {state} until {until} UTC.").format(**told, until=_moment(until))
    if until > due_at:
        yield _("Warning: the hold ends after the request's deadline, {due} UTC, which goes on.").format(due=due)


def _print_batch(batch: BatchResult, console: Console) -> None:
    told = _(
        "{verified:,} of {requests:,} requests erased and proved in {seconds:.1f} s; {changed:,} rows changed, "
        "{searched:,} rows and {values:,} compressed values searched."
    )
    counts = {"verified": batch.verified, "requests": batch.requests, "seconds": sum(batch.seconds.values())}
    counts |= {"changed": sum(batch.rows.values()), "searched": batch.searched_rows}
    console.print(told.format(**counts, values=batch.compressed.values), highlight=False)
    for failed in batch.failed:
        told = _("request {request} failed, attempt {attempt}: {error}")
        text = told.format(request=failed.request_id, attempt=failed.attempts, error=failed.error)
        console.print(f"[red]{escape(text)}[/]", highlight=False, soft_wrap=True)


def run_everything(conn: Connection, application: Application, storage: ColdStorage | None, console: Console) -> int:
    """Enqueue, then batch after batch until none is due; how many requests failed. Raises psycopg.Error."""
    failed = batches = 0
    enqueue(conn)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(_("claiming"), total=1.0)

        def progress(message: str, fraction: float) -> None:
            bar.update(task, description=escape(message), completed=fraction)

        while (batch := erase_batch(conn, storage=storage, progress=progress)) is not None:
            _print_batch(batch, bar.console)
            failed += len(batch.failed)
            batches += 1
    held = queue_status(conn, application).held
    if not batches:
        console.print(_("No request is due."))
    if held:
        told = _("{count:,} requests are held: see `lifecycle erasure status`.")
        console.print(told.format(count=held), highlight=False)
    return failed
