"""A spike of readers while a heavy job runs: p95 of dashboards and of the API at ten times the load, against idle.

    python -m benchmarks.spike --bin-dir /usr/lib/postgresql/15/bin

Every case runs on its own copy of one filled database whose views are kept. `idle` is the load alone, `spike` ten times
the load alone: what differs between the two is the machine's, what a job adds is the job's.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from benchmarks.report import Report, write_json
from benchmarks.spike_reads import KINDS

if TYPE_CHECKING:
    from benchmarks.spike_cases import Case

TIMES: Final = 10
AIM: Final = 1.3
IDLE, SPIKE = "idle", "spike, no job"


def _print(report: Report, title: str, cases: "list[Case]") -> None:
    idle = cases[0].felt
    report.table(
        title,
        ("case", "reads/s", "measured", "pieces", "work", *KINDS, "reads", "failed"),
        [
            (
                case.name,
                f"{case.rate * len(KINDS):.0f}",
                f"{case.seconds:.1f} s",
                str(case.pieces),
                f"{case.work:,}",
                *(
                    f"{case.felt[kind].p95_ms:.1f} ms, {case.felt[kind].p95_ms / idle[kind].p95_ms:.2f}"
                    for kind in KINDS
                ),
                f"{sum(each.reads for each in case.felt.values()):,}",
                f"{sum(each.errors for each in case.felt.values()):,}",
            )
            for case in cases
        ],
    )
    report.line("p95 of each kind of read, from the moment it was due, and how many times that of idle")
    for case in cases[1:]:
        worst = max(case.felt[kind].p95_ms / idle[kind].p95_ms for kind in KINDS)
        report.aim(f"{case.name}: p95 at most {AIM} times idle (at worst {worst:.2f})", worst <= AIM)


def main(
    scale: Annotated[str, typer.Option(help="Sample rows: small, medium, large.")] = "medium",
    messages: Annotated[int, typer.Option(help="Old messages besides, for the archive.")] = 200_000,
    rate: Annotated[float, typer.Option(help="Reads a second of each of the four kinds when idle.")] = 4.0,
    seconds: Annotated[float, typer.Option(help="Of each case, at most.")] = 60.0,
    busy_share: Annotated[float, typer.Option(help="The pace: share of the time that a job works.")] = 1.0,
    jobs: Annotated[
        list[str] | None, typer.Option(help="Only this: refresh, archive, conversion, erasure; may be repeated.")
    ] = None,
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Measure idle, the spike alone, and the spike beside each job; print p95 and ratios."""
    # Every client imports this file: what takes a second to load is left to the one process that needs it.
    from benchmarks.data import benchmark_server, describe
    from benchmarks.spike_cases import measure, prepare
    from benchmarks.spike_reads import asked_of
    from benchmarks.spike_work import JOBS

    chosen = jobs or list(JOBS)
    if unknown := set(chosen) - set(JOBS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: known are {', '.join(JOBS)}")
    report = Report()
    with benchmark_server(bin_dir) as server:
        report.step(f"filling the template, scale {scale}, and keeping its views")
        url = prepare(server, scale, messages)
        asked, described = asked_of(url), describe(url)
        cases = []
        for name in (IDLE, SPIKE, *chosen):
            report.step(f"measuring {name}")
            cases.append(measure(server, name, rate * (1 if name == IDLE else TIMES), seconds, busy_share, asked))
        report.step("done")
    title = f"Readers at {TIMES} times the load, sample rows {scale}, jobs work {busy_share:.0%}, {described}"
    _print(report, title, cases)
    if json:
        write_json(json, title, cases)


if __name__ == "__main__":
    typer.run(main)
