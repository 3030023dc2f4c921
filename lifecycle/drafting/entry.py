"""One proposal for a file of declarations, and how YAML of it is written."""

import re
from dataclasses import dataclass
from typing import Any, Final

import yaml

from lifecycle.names import QualifiedName

WIDEST: Final = 120
PLAIN: Final = re.compile(r"[a-z_][a-z0-9_.]*")


@dataclass(frozen=True)
class Entry:
    """A key of a file with what stands under it. `section` is the key above it, "" at the top.

    `remarks` are sentences above it, `note` one behind its first line. Only what is `sure` is in force in a fresh
    file; everything else is a comment until a person says otherwise.
    """

    file: str
    section: str
    key: str
    value: Any
    remarks: tuple[str, ...] = ()
    note: str = ""
    sure: bool = False


@dataclass(frozen=True)
class Remark:
    """A sentence without a proposal: what was found and why nothing follows from it."""

    file: str
    section: str
    text: str


def scalar(value: Any) -> str:
    """A name, text, number or truth as it may stand in a flow mapping."""
    text: str = yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True)
    return text.strip()[1:-1]


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key_text(key)}: {flow(held)}" for key, held in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(str(value) if isinstance(value, QualifiedName) else value)


def key_text(key: object) -> str:
    """A key as YAML writes it: plain, or in single quotes where it would mean something else."""
    return scalar(str(key))


def yaml_lines(key: str, value: Any, indent: int) -> list[str]:
    """`key: value` at an indentation, on one line where that is short enough."""
    space = " " * indent
    line = f"{space}{key_text(key)}: {flow(value)}"
    if len(line) <= WIDEST or not isinstance(value, dict | list | tuple) or not value:
        return [line]
    if isinstance(value, dict):
        below = [part for name, held in value.items() for part in yaml_lines(name, held, indent + 2)]
        return [f"{space}{key_text(key)}:", *below]
    if all(not isinstance(item, dict | list | tuple) for item in value):
        return _wrapped(f"{space}{key_text(key)}: [", [flow(item) for item in value], indent + 2)
    return [f"{space}{key_text(key)}:", *(part for item in value for part in _item_lines(item, indent + 2))]


def _item_lines(item: Any, indent: int) -> list[str]:
    line = f"{' ' * indent}- {flow(item)}"
    if len(line) <= WIDEST or not isinstance(item, dict):
        return [line]
    below = [part for name, held in item.items() for part in yaml_lines(name, held, indent + 2)]
    return [f"{' ' * indent}- {below[0].lstrip()}", *below[1:]]


def _wrapped(start: str, items: list[str], indent: int) -> list[str]:
    lines, line = [], start
    for place, item in enumerate(items):
        part = item + ("]" if place == len(items) - 1 else ",")
        if len(line) + len(part) + 1 > WIDEST and line.strip():
            lines.append(line.rstrip())
            line = " " * indent
        line += part + " "
    return [*lines, line.rstrip()]
