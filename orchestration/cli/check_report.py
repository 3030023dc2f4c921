"""What `lifecycle check` prints."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from lifecycle.checking.mismatch import Mismatch


def print_findings(findings: Sequence[Mismatch], console: Console) -> None:
    """A line each, then the lines to paste, file by file."""
    if not findings:
        console.print("The declarations and the database agree.")
        return
    for finding in findings:
        console.print(f"[bold]{escape(finding.object)}[/] ({finding.capability}): {escape(finding.told)}")
    for file in dict.fromkeys(finding.file for finding in findings if finding.lines):
        console.print(f"\n[bold]Lines for {file}[/]")
        for finding in findings:
            if finding.file == file and finding.lines:
                console.print(escape(finding.lines.rstrip()))
    console.print(f"\n{len(findings)} differences. Nothing was changed.")
