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

from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.erasures.due import WaitingRequest, deletions_text
from lifecycle.erasures.proof import BrokenReceipt, PlannedStep, PlannedWords, Receipt
from lifecycle.erasures.queue import QueueStatus, enqueue, queue_status
from lifecycle.erasures.run import BatchResult, erase_batch

# The facts of a receipt that are no table, in the order in which they happened.
FACTS: Final = (
    *(
        "result",
        "subject",
        "policy_version",
        "requested_at",
        "seen_at",
        "due_at",
        "in_time",
        "started_at",
        "collected_at",
        "erased_at",
    ),
    *("verified_at", "attempts", "recurrence", "sign_in_user", "space"),
)
COUNTS: Final = ("rows", "requests")


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in COUNTS else "left")
    return table


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else "-"


def plan_table(steps: Sequence[PlannedStep]) -> Table:
    """Every step, in its order; those without rows are dimmed."""
    table = _table("What would be done, in this order", "table", "found by", "action", "rows", "why")
    for step in steps:
        cells = (step.table, step.found_by, step.action, f"{step.rows:,}", step.reason)
        table.add_row(*map(escape, cells), style="" if step.rows else "dim")
    return table


def words_table(places: Sequence[PlannedWords]) -> Table:
    """Every column in which somebody else's row would change."""
    table = _table("Others' texts", "column", "rows")
    for place in places:
        table.add_row(escape(f"{place.table}.{place.column}"), f"{place.rows:,}")
    return table


def _chain(broken: Sequence[BrokenReceipt]) -> str:
    if not broken:
        return "[green]The chain of all receipts is whole.[/]"
    faults = "; ".join(map(str, broken))
    return f"[red]The chain of receipts is broken: {escape(faults)}[/]"


def _receipt_tables(receipt: Receipt) -> list[RenderableType]:
    body = receipt.body
    # A hash is as long as 80 columns allow beside its name, and is copied whole.
    facts = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name in FACTS:
        facts.add_row(name.replace("_", " "), escape(str(body[name])))
    for name, found in body["search"].items():
        text = ", ".join(f"{key} {value}" for key, value in found.items()) if isinstance(found, dict) else str(found)
        facts.add_row(f"search: {name}", escape(text))
    facts.add_row("hash", receipt.hash)
    facts.add_row("hash before it", receipt.previous_hash or "none: the first receipt")
    done = _table("What was done", "table", "action", "rows")
    for row in body["rows"]:
        done.add_row(escape(row["table"]), row["action"], f"{row['rows']:,}")
    kept = _table("What may still name the person, and why", "column", "rows", "reason")
    for row in body["exemptions"]:
        kept.add_row(escape(row["column"]), f"{row['rows']:,}", escape(row["reason"]))
    claimed = _table("Claimed and not followed", "kind of key", "reason", "keys")
    for row in body["not_followed"]:
        claimed.add_row(row["kind"].replace("_", " "), row["reason"], f"{row['keys']:,}")
    left = _table("Left where others wrote it", "column", "rows")
    for row in body["left_with_others"]:
        left.add_row(escape(row["column"]), f"{row['rows']:,}")
    title = f"[bold]Receipt {receipt.id} of request {receipt.request_id}[/]"
    return [title, facts, done, kept, *(table for table in (claimed, left) if table.row_count)]


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
    states = _table("Deletion requests", "state", "requests")
    for state, count in status.states.items():
        states.add_row(state, f"{count:,}")
    if status.without_job:
        states.add_row("not enqueued yet", f"{status.without_job:,}")
    counted = [f"{deletions_text(status.due)}."] if status.due else []
    if not status.listed:
        return [states, *counted]
    title = "[bold]Not carried out: those that need a person, then the most urgent[/]"
    return [states, *counted, "", title, *(line for request in status.listed for line in _waiting(request))]


def _waiting(request: WaitingRequest) -> Iterator[str]:
    state = f"[red]{request.state}, needs a person[/]" if request.needs_a_person else request.state
    yield f"{request.request_id}  {state}, due {_moment(request.due_at)} UTC"
    word = "held until" if request.state == "held" else "next try"
    when = f"{word} {_moment(request.until)} UTC" if request.until else ""
    if request.state == "held" and not request.until:
        when = "held until somebody releases it"
    told = ": ".join(part for part in (when, request.told) if part)
    if told:
        yield f"    {escape(told)}"


def hold_told(request_id: str, state: str, until: datetime | None, due_at: datetime) -> Iterator[str]:
    """What a hold came to, and that the deadline goes on."""
    yield f"Request {request_id} is {state} {f'until {_moment(until)} UTC' if until else 'until somebody releases it'}."
    if until is None:
        yield f"Its deadline goes on: {_moment(due_at)} UTC."
    elif until > due_at:
        yield f"Warning: the hold ends after the request's deadline, {_moment(due_at)} UTC, which goes on."


def _print_batch(batch: BatchResult, console: Console) -> None:
    seconds = sum(batch.seconds.values())
    console.print(
        f"{batch.verified:,} of {batch.requests:,} requests erased and proved in {seconds:.1f} s; "
        f"{sum(batch.rows.values()):,} rows changed, {batch.searched_rows:,} rows and "
        f"{batch.compressed.values:,} compressed values searched.",
        highlight=False,
    )
    for failed in batch.failed:
        text = f"request {failed.request_id} failed, attempt {failed.attempts}: {failed.error}"
        console.print(f"[red]{escape(text)}[/]", highlight=False, soft_wrap=True)


def run_everything(conn: Connection, application: Application, console: Console) -> int:
    """Enqueue, then batch after batch until none is due; how many requests failed. Raises psycopg.Error."""
    failed = batches = 0
    enqueue(conn)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("claiming", total=1.0)

        def progress(message: str, fraction: float) -> None:
            bar.update(task, description=escape(message), completed=fraction)

        while (batch := erase_batch(conn, progress=progress)) is not None:
            _print_batch(batch, bar.console)
            failed += len(batch.failed)
            batches += 1
    held = queue_status(conn, application).held
    if not batches:
        console.print("No request is due.")
    if held:
        console.print(f"{held:,} requests are held: see `lifecycle erasure status`.", highlight=False)
    return failed
