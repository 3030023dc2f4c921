"""docs/reference/commands.md, made from the commands themselves."""

from collections.abc import Iterator
from typing import Any, Final

from typer.core import TyperGroup

from orchestration.docs.tables import table

HEAD: Final = """\
# Commands of `lifecycle`

Written by `lifecycle docs` from the commands; do not edit. `make`, Dagster and the environment:
[commands and environment](commands-and-environment.md).
"""
TAIL: Final = """
| exit code | means |
|---|---|
| 0 | done; `check`, `views compare`: nothing differs; `demo --once`: every asset and check did what it should |
| 1 | an error that the message explains; `check`, `views compare`: something differs; `demo --once`: one did not |
| 2 | a variable is not set, or an option is wrong |
| 130 | `demo` was interrupted |
"""


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            if command.invoke_without_command:
                yield " ".join(("lifecycle", *path, name)), command
            yield from _commands(command, (*path, name))
        else:
            yield " ".join(("lifecycle", *path, name)), command


def _shown(name: str, command: Any) -> str:
    arguments = [
        parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]"
        for parameter in command.params
        if parameter.param_type_name == "argument"
    ]
    return " ".join((name, *arguments))


def _options(command: Any) -> Iterator[tuple[str, str, str]]:
    for parameter in command.params:
        option = next((opt for opt in parameter.opts if opt.startswith("--")), "")
        if not option or option == "--help":
            continue
        default = "" if parameter.is_flag or parameter.default is None else f"`{parameter.default}`"
        yield f"`{option}`", parameter.help or "", default


def commands_page(commands: Any) -> str:
    """The whole page, of the command `lifecycle` as Typer has assembled it."""
    found = list(_commands(commands))
    rows = [(f"`{_shown(name, command)}`", (command.help or "").split("\n")[0]) for name, command in found]
    options = [(f"`{name}`", *option) for name, command in found for option in _options(command)]
    return (
        HEAD
        + "\n"
        + table(("command", "does"), rows)
        + "\n## Options\n\n"
        + table(("command", "option", "meaning", "default"), options)
        + TAIL
    )
