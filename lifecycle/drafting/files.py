"""Drafts as files: written fresh, or merged into what a person wrote. A merge only adds comments.

A line behind `##` is a remark, one behind `#` a proposal, in force once its `# ` is taken away.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Final

import yaml

from lifecycle.drafting.entry import WIDEST, Entry, Remark, yaml_lines
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName

# The sections of each file in their order; "" is what stands at its top.
SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "database": ("",),
    "event_tables": ("",),
    "personal_data": ("", "keys", "tables"),
    "views": ("kept", "times", "materialized"),
    "archive": ("",),
    "access": ("kinds", "relations", "routines"),
}
# Without its first keys such a file is no declaration, so the heads of its sections wait for them.
NEEDS_ITS_TOP: Final = ("personal_data",)
HOW: Final = (
    "Drafted by `lifecycle init`: ## begins a remark, # a proposal, which is in force once the # and the blank behind "
    "it are taken away. Leave what you do not want as a comment: a line that is deleted is proposed again. All keys: "
    "docs/reference/declarations.md."
)
COMMENTED: Final = re.compile(r"^( *)#(?!#) ?(.*)$")
KEY: Final = re.compile(r"""^( *)("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#'"\-\[{][^#]*?):(?:\s|$)""")


def fresh(file: str, about: str, entries: Sequence[Entry], remarks: Sequence[Remark]) -> str:
    """The text of a file that is not there yet."""
    lines = [*_remark(f"{about} {HOW}")]
    in_force = file not in NEEDS_ITS_TOP or any(entry.sure for entry in entries)
    for section in SECTIONS[file]:
        lines.append("")
        if section and (in_force or any(entry.section == section for entry in entries)):
            lines.append(f"{section}:" if in_force else f"# {section}:")
        for remark in remarks:
            lines += _remark(remark.text) if remark.section == section else []
        for entry in entries:
            lines += _entry(entry, sure=entry.sure) if entry.section == section else []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def merged(text: str, file: str, entries: Sequence[Entry]) -> tuple[str, tuple[Entry, ...]]:
    """A file with what it does not hold yet, neither in force nor as a comment; and what that is."""
    lines = text.splitlines()
    added: list[Entry] = []
    for section in SECTIONS[file]:
        known = {key.name for key in keys_in("\n".join(lines), file) if key.section == section}
        new = [entry for entry in entries if entry.section == section and entry.key not in known]
        if not new:
            continue
        added += new
        told = [line for entry in new for line in _entry(entry, sure=False)]
        if (place := _end(lines, file, section)) is None:
            lines += ["", f"# {section}:", *told]
        else:
            lines[place:place] = told
    result = "\n".join(lines) + "\n"
    if not added:
        return text, ()
    if yaml.safe_load(result) != yaml.safe_load(text):
        raise RefusedError(
            f"{file}.yaml: comments at its end would change what it says. Move it away, then run this again"
        )
    return result, tuple(added)


@dataclass(frozen=True)
class Key:
    """A key of a file, in force or as a comment. `value` is what stands under it in force."""

    section: str
    name: str
    in_force: bool
    value: Any = None

    @property
    def relation(self) -> QualifiedName | None:
        """What it names, where that is an object of the database."""
        try:
            return QualifiedName.parse(self.name)
        except ValueError:
            return None


def keys_in(text: str, file: str) -> Iterator[Key]:
    """The keys at the top, and those one level below of the file's sections."""
    sections = SECTIONS[file]
    said = yaml.safe_load(text) or {}
    for name, value in said.items() if isinstance(said, dict) else ():
        yield Key("", str(name), True, value)
        for below, held in value.items() if name in sections and isinstance(value, dict) else ():
            yield Key(str(name), str(below), True, held)
    section, inside = "", 0
    for line in text.splitlines():
        body, commented = _body(line)
        found = KEY.match(body)
        if found is None:
            continue
        depth, name = len(found[1]), _plain(found[2])
        if depth == 0:
            if name in sections or not commented:
                section, inside = (name if name in sections else "", 0)
            if commented:
                yield Key("", name, False)
        elif section and commented and (not inside or depth <= inside):
            inside = depth
            yield Key(section, name, False)


def _body(line: str) -> tuple[str, bool]:
    """A line without its comment sign, and whether it had one; nothing of a remark."""
    commented = COMMENTED.match(line)
    if commented:
        return commented[1] + commented[2], True
    return ("" if line.lstrip().startswith("#") else line), False


def _plain(key: str) -> str:
    try:
        return str(yaml.safe_load(key))
    except yaml.YAMLError:
        return key


def _end(lines: Sequence[str], file: str, section: str) -> int | None:
    """Behind the last line of a section; None where it has no head."""
    if not section:
        return len(lines)
    heads = [(place, name) for place, line in enumerate(lines) if (name := _head(line, file))]
    start = next((place for place, name in heads if name == section), None)
    if start is None:
        return None
    place = next((place for place, _ in heads if place > start), len(lines))
    # What is said above the next head belongs to that.
    while place > start + 1 and not re.match(r"^ *[^\s#]|^#  +\S|^ +#", lines[place - 1]):
        place -= 1
    return place


def _head(line: str, file: str) -> str | None:
    """The key at the top of the file that a line begins; as a comment only a section's, since prose has colons, too."""
    body, commented = _body(line)
    found = KEY.match(body)
    if found is None or found[1]:
        return None
    name = _plain(found[2])
    return name if not commented or name in SECTIONS[file] else None


def _remark(text: str) -> list[str]:
    return wrap(
        text, WIDEST, initial_indent="## ", subsequent_indent="## ", break_on_hyphens=False, break_long_words=False
    )


def _entry(entry: Entry, *, sure: bool) -> list[str]:
    remarks = [line for text in entry.remarks for line in _remark(text)]
    lines = yaml_lines(entry.key, entry.value, 2 if entry.section else 0)
    if entry.note:
        lines[0] += f"  # {entry.note}"
    return remarks + (lines if sure else [f"# {line}" for line in lines])
