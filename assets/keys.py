"""Keys of our assets that are made per table or view, and the names of steps made from them."""

import re
from typing import Final

import dagster as dg

from lifecycle.names import QualifiedName

# The schema whose relations go by their bare name.
PLAIN_SCHEMA: Final = "public"


def part(name: str) -> str:
    """A name as Dagster takes it in keys and steps: letters, digits, underscores; anything else as its code."""
    return re.sub(r"[^A-Za-z0-9_]", lambda found: f"_{ord(found[0]):x}_", name)


def key_of(prefix: str, relation: QualifiedName) -> dg.AssetKey:
    """`prefix / name`, and `prefix / schema / name` outside of schema public."""
    path = [relation.name] if relation.schema == PLAIN_SCHEMA else [relation.schema, relation.name]
    return dg.AssetKey([prefix, *map(part, path)])


def step_name(key: dg.AssetKey) -> str:
    """A key of ours as the name of a step."""
    return "__".join(key.path)
