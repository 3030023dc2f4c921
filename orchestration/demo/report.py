"""What the demo did, as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from assets.checks import CHECKS
from assets.partitions import partitions_key
from lifecycle.policy import EVENT_TABLES, EventTable

OUTCOMES: Final = {True: "[green]passed[/]", False: "[red]failed[/]"}
WARNED: Final = "[yellow]warned[/]"
MADE: Final = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION)


@dataclass(frozen=True)
class DemoReport:
    """Rows per event table before, after the conversion and after the rotation, and both runs."""

    before: Mapping[str, int]
    converted: Mapping[str, int]
    after: Mapping[str, int]
    conversion: dg.ExecuteInProcessResult
    rotation: dg.ExecuteInProcessResult

    @property
    def evaluations(self) -> Sequence[dg.AssetCheckEvaluation]:
        """Every check evaluation of the rotation's run."""
        return self.rotation.get_asset_check_evaluations()

    @property
    def succeeded(self) -> bool:
        """Both jobs ended well, no row was lost or doubled, and every check passed or only warned."""
        return (
            self.conversion.success
            and self.rotation.success
            and self.before == self.converted
            and len(self.evaluations) == len(EVENT_TABLES) * len(CHECKS)
            and all(evaluation.passed or _warned(evaluation) for evaluation in self.evaluations)
        )


def _warned(evaluation: dg.AssetCheckEvaluation) -> bool:
    return not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.WARN


def asset_metadata(result: dg.ExecuteInProcessResult, table: EventTable) -> dict[str, Any]:
    """The metadata of the last event of a table's partitions in a run; empty when there was none."""
    found: dict[str, Any] = {}
    for event in result.all_events:
        if event.event_type in MADE and event.asset_key == partitions_key(table):
            data = event.event_specific_data
            recorded = getattr(data, "materialization", None) or getattr(data, "asset_observation", None)
            found = {key: entry.value for key, entry in recorded.metadata.items()} if recorded else {}
    return found


def _figures(report: DemoReport, table: EventTable) -> dict[str, str]:
    """What happened to one event table, in words and numbers."""
    before, converted, after = (rows[table.name] for rows in (report.before, report.converted, report.after))
    conversion = asset_metadata(report.conversion, table)
    rotation = asset_metadata(report.rotation, table)
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
    }


def _outcomes(report: DemoReport, table: EventTable) -> dict[str, str]:
    """How the asset and each of its checks ended."""
    outcomes = {"asset materialized": OUTCOMES[bool(asset_metadata(report.rotation, table))]}
    for check, _ in CHECKS:
        outcomes[check.__name__] = "[red]not evaluated[/]"
    for evaluation in report.evaluations:
        if evaluation.asset_key == partitions_key(table):
            outcomes[evaluation.check_name] = WARNED if _warned(evaluation) else OUTCOMES[evaluation.passed]
    return outcomes


def report_table(report: DemoReport) -> Table:
    """One column per event table: its rows and partitions, then its asset and checks."""
    table = Table(title="What happened to the event tables", title_justify="left")
    table.add_column("", no_wrap=True)
    for event_table in EVENT_TABLES:
        table.add_column(event_table.name, justify="right", overflow="fold")
    for part in (_figures, _outcomes):
        columns = [part(report, event_table) for event_table in EVENT_TABLES]
        for name in columns[0]:
            table.add_row(name, *(column[name] for column in columns))
        table.add_section()
    return table


def interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a signal ended a step of the run: Dagster catches the signals that arrive during a run."""
    return any(
        event.event_type is dg.DagsterEventType.STEP_FAILURE
        and event.step_failure_data.error_source.value == "INTERRUPT"
        for event in result.all_events
    )


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """What each failed step of a run said."""
    said = []
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            text = data.user_failure_data.description if data.user_failure_data else None
            error = data.error.cause or data.error if data.error else None
            said.append(f"{event.step_key}: {text or (error.message if error else 'failed')}".strip())
    return said


def print_report(report: DemoReport, artificial: tuple[str, ...], console: Console) -> None:
    """The table, what is artificial about the rows, and every failure in full."""
    console.print()
    console.print(report_table(report))
    for evaluation in report.evaluations:
        if not evaluation.passed:
            style = "yellow" if _warned(evaluation) else "red"
            name = f"{evaluation.asset_key.path[-1]} {evaluation.check_name}"
            console.print(f"[{style}]{name}[/]: {escape(evaluation.description or '')}", highlight=False)
    if artificial:
        console.print("Not everything about these rows is real:")
    for sentence in artificial:
        console.print(f"  - {escape(sentence)}", highlight=False, soft_wrap=True)
    for result in (report.conversion, report.rotation):
        for text in failures(result):
            console.print(f"[bold red]failed[/] {escape(text)}", highlight=False, soft_wrap=True)
    if report.before != report.converted:
        console.print("[bold red]The conversion changed the number of rows.[/]")
    verdict = "[bold green]Everything did what it should.[/]" if report.succeeded else "[bold red]Not all went well.[/]"
    console.print(verdict)
