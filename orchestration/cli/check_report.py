"""What `lifecycle check` prints."""

from collections.abc import Iterator, Sequence
from textwrap import indent

from rich.console import Console
from rich.markup import escape

from lifecycle.checking.mismatch import Mismatch
from lifecycle.language import _, numbered


def lines_to_paste(findings: Sequence[Mismatch]) -> Iterator[tuple[str, str]]:
    """File and lines, the keys above them once."""
    for file in dict.fromkeys(finding.file for finding in findings if finding.lines):
        parts: list[str] = []
        above: tuple[str, ...] = ()
        for finding in sorted((f for f in findings if f.file == file and f.lines), key=lambda each: each.within):
            for depth, key in enumerate(finding.within):
                if finding.within[: depth + 1] != above[: depth + 1]:
                    parts.append(indent(f"{key}:", "  " * depth))
            above = finding.within
            parts.append(indent(finding.lines.rstrip(), "  " * len(above)))
        yield file, "\n".join(parts)


def print_findings(findings: Sequence[Mismatch], console: Console) -> None:
    """A line each, then the lines to paste, file by file."""
    if not findings:
        console.print(_("The declarations and the database agree."))
        return
    for finding in findings:
        console.print(f"[bold]{escape(finding.object)}[/] ({finding.capability}): {escape(finding.told)}")
    for file, lines in lines_to_paste(findings):
        heading = _("To add to {file}").format(file=file)
        console.print(f"\n[bold]{heading}[/]")
        console.print(escape(lines))
    told = numbered(
        "{count} difference. Nothing was changed.", "{count} differences. Nothing was changed.", len(findings)
    )
    console.print("\n" + told.format(count=len(findings)))
