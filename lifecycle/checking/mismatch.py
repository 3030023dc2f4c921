"""A place where declarations and database disagree."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mismatch:
    """`object` is what it is about, `told` what is wrong and what to do about it.

    `lines` go into the file `file` of the declarations below the keys `within`; empty where pasting cures nothing.
    """

    capability: str
    object: str
    told: str
    file: str = ""
    within: tuple[str, ...] = ()
    lines: str = ""
