"""What the demo did, as tables."""

from collections.abc import Iterable
from typing import Any, Final

import dagster as dg
from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from assets.partitions import partitions_key
from assets.units import size_text
from lifecycle.partitions.tables import MonthlyTable, monthly_tables
from lifecycle.person_export.cover import COVER_SHEET
from orchestration.demo.cold import ColdSeen
from orchestration.demo.erased import Erased
from orchestration.demo.inventory import AssetState, warned
from orchestration.demo.outcome import DemoReport
from orchestration.demo.person import Person

OUTCOMES: Final = {True: "[green]passed[/]", False: "[red]failed[/]"}
WARNED: Final = "[yellow]warned[/]"
NOT_EVALUATED: Final = "[red]not evaluated[/]"
MADE: Final = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION)
# Of a message: its title, its state, what fails, the error.
FIRST_LINES: Final = 4
REVIEW_TITLE: Final = (
    "The weekly review, as Slack shows it. This database is minutes old: the weeks before are made up."
)


def conversion_metadata(result: dg.ExecuteInProcessResult, table: MonthlyTable) -> dict[str, Any]:
    """What the conversion told of a table's partitions; empty when it told nothing."""
    found: dict[str, Any] = {}
    for event in result.all_events:
        if event.event_type in MADE and event.asset_key == partitions_key(table):
            data = event.event_specific_data
            recorded = getattr(data, "materialization", None) or getattr(data, "asset_observation", None)
            found = {key: entry.value for key, entry in recorded.metadata.items()} if recorded else {}
    return found


def _outcome(evaluation: dg.AssetCheckEvaluation | None) -> str:
    if evaluation is None:
        return NOT_EVALUATED
    return WARNED if warned(evaluation) else OUTCOMES[evaluation.passed]


def _figures(report: DemoReport, table: MonthlyTable) -> dict[str, str]:
    """What happened to one event table, in words and numbers; then how its asset and each of its checks ended."""
    before, converted, after = (rows[table.name] for rows in (report.before, report.converted, report.after))
    conversion = conversion_metadata(report.conversion, table)
    state = next(state for state in report.assets if state.key == partitions_key(table))
    rotation = {name: entry.value for name, entry in state.metadata.items()}
    return {
        "rows before": f"{before:,}",
        "rows after conversion": f"{converted:,}" if before == converted else f"[red]{converted:,}[/]",
        "dropped, past retention": f"{converted - after:,}",
        "rows now": f"{after:,}",
        "monthly partitions": f"{rotation.get('months', '-')}",
        "of them ahead": f"{rotation.get('months_ahead', '-')}",
        "rows in the default": f"{rotation.get('default_rows', '-')}",
        "views switched over": f"{conversion.get('dependents_switched', '-')}",
        "conversion": f"{conversion['seconds']:.1f} s" if conversion else "-",
        "longest lock": f"{conversion['longest_lock_ms']:.0f} ms" if conversion else "-",
        **{check.name: _outcome(evaluation) for check, evaluation in state.checks.items()},
    }


def event_tables(report: DemoReport) -> Table:
    """One column per event table: its rows and partitions, then its checks."""
    tables = monthly_tables(report.application)
    table = Table(title="What happened to the event tables", title_justify="left")
    table.add_column("", no_wrap=True)
    for event_table in tables:
        table.add_column(event_table.name, justify="right", overflow="fold")
    columns = [_figures(report, event_table) for event_table in tables]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns), end_section=name == "longest lock")
    return table


def _checks(state: AssetState) -> str:
    """The number of checks per outcome, the worst first."""
    counted: dict[str, int] = {}
    for evaluation in state.checks.values():
        counted[_outcome(evaluation)] = counted.get(_outcome(evaluation), 0) + 1
    order = (NOT_EVALUATED, OUTCOMES[False], WARNED, OUTCOMES[True])
    return ", ".join(f"{counted[outcome]} {outcome}" for outcome in order if outcome in counted) or "-"


def assets_table(states: Iterable[AssetState]) -> Table:
    """One row per asset, by group."""
    table = Table(title="Every asset, materialized", title_justify="left")
    table.add_column("asset", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("what it did")
    table.add_column("checks", no_wrap=True)
    group = ""
    for state in states:
        if state.group != group:
            if group:
                table.add_section()
            group = state.group
            table.add_row(f"[bold]{group}[/]")
        rows = "-" if state.rows is None else f"{state.rows:,}"
        did = escape(state.did) if state.materialized else "[red]not materialized[/]"
        table.add_row(f"  {state.key.path[-1]}", rows, did, _checks(state))
    return table


def broken_view_table(report: DemoReport) -> Table:
    """What was done to the view, how its job ended, what Slack showed then."""
    table = Table(title="A view breaks, and what people hear of it", title_justify="left", show_lines=True)
    table.add_column("what was done", ratio=1)
    table.add_column("run", no_wrap=True)
    table.add_column("Slack, afterwards", ratio=3)
    for act in report.play.acts:
        news = []
        for how, message in report.play.news(act):
            text = "\n".join(message.lines[:FIRST_LINES])
            news.append(f"[bold]{how}[/] {message.kind}, {message.at:%H:%M:%S} UTC\n{escape(text)}")
        ended = "[green]succeeded[/]" if act.run.success else "[yellow]failed[/]"
        table.add_row(act.what, ended, "\n".join(news) or "[red]nothing[/]")
    return table


def person_table(person: Person) -> Table:
    """A withdrawal and an export."""
    table = Table(title="A person takes back consent, and asks for their data", title_justify="left", show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_row("rows against consent", ", ".join(f"{name}: {rows:,}" for name, rows in person.against.items()))
    table.add_row("of them after the run", f"{person.left:,}")
    table.add_row("their data", f"{person.export.rows:,} rows of {person.export.tables} tables, JSON and CSV")
    table.add_row("cover sheet", f"{person.export.folder / COVER_SHEET}")
    return table


def cold_table(cold: ColdSeen) -> Table:
    """Months that left the database, and a query over both."""
    table = Table(title=f"Old months in {cold.place}", title_justify="left")
    for heading in (
        "table",
        "months",
        "rows in files",
        "in the database",
        "a query over both",
        "size before, in files",
    ):
        table.add_column(heading, justify="left" if heading == "table" else "right", overflow="fold")
    for each in cold.tables:
        sizes = f"{size_text(each.bytes_before)}, {size_text(each.cold_bytes)}"
        counts = (each.months, each.cold_rows, each.hot_rows, each.counted)
        table.add_row(each.name, *(f"{count:,}" for count in counts), sizes)
    return table


def erased_table(erased: Erased) -> Table:
    """From a deletion request to its receipt."""
    table = Table(title="A person asks to be erased, by SQL", title_justify="left", show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_row("request", erased.request_id)
    table.add_row("runs that the sensor asked for", str(erased.runs))
    if erased.receipt is not None and erased.seconds is not None:
        body = erased.receipt.body
        search = body["search"]
        searched = f"{search['rows']:,} rows in {search['columns']} columns of {search['relations']} tables"
        table.add_row("receipt", f"{erased.receipt.id}, {erased.seconds:.1f} s after the request")
        table.add_row("rows deleted or changed", f"{sum(row['rows'] for row in body['rows']):,}")
        table.add_row("searched for what is left", f"{searched}, {search['compressed']['values']:,} values unpacked")
        cold = search["cold"]
        files = f"{cold['rows']:,} rows taken out of {cold['rewritten']} of {cold['files']} files"
        table.add_row("in cold months", f"{files}, {cold['removed']} old files seen to be gone")
        table.add_row("may still name the person", ", ".join(row["column"] for row in body["exemptions"]))
        table.add_row("chain of receipts", "whole" if erased.chain_unbroken else "[red]broken[/]")
    return table


def _review(report: DemoReport) -> Group | str:
    """The weekly review as Slack shows it."""
    shown = [Panel("\n".join(map(escape, message.lines)), expand=False) for message in report.of_kind("report")]
    return Group(f"[italic]{REVIEW_TITLE}[/]", *shown) if shown else "This week's review was sent before."


def print_report(report: DemoReport, artificial: tuple[str, ...], console: Console) -> None:
    """The tables, what Slack shows, what is artificial about the rows, and every fault in full."""
    people = (cold_table(report.cold), person_table(report.person), erased_table(report.erased))
    tables = (event_tables(report), assets_table(report.assets), *people, broken_view_table(report))
    for part in (*tables, _review(report)):
        console.print()
        console.print(part, highlight=False)
    for name, told in report.warnings:
        console.print(f"[yellow]warning[/] {name}: {escape(told)}", highlight=False)
    counts = {kind: len(report.of_kind(kind)) for kind in ("failure", "recovery", "report")}
    console.print(f"Slack: {', '.join(f'{count} {kind}' for kind, count in counts.items())}.", highlight=False)
    if artificial:
        console.print("Not everything about these rows is real:")
    for sentence in artificial:
        console.print(f"  - {escape(sentence)}", highlight=False, soft_wrap=True)
    faults = report.faults
    for text in faults:
        console.print(f"[bold red]fault[/] {escape(text)}", highlight=False, soft_wrap=True)
    console.print(f"[bold {'red' if faults else 'green'}]{verdict(len(faults), len(report.warnings))}[/]")


def verdict(faults: int, warnings: int) -> str:
    """The last line: whether all went well, and how many faults and warnings stand above it."""
    counts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((faults, "fault"), (warnings, "warning"))
        if count
    ]
    told = f", with {' and '.join(counts)} above." if counts else "."
    return f"{'Not all went well' if faults else 'Everything did what it should'}{told}"
