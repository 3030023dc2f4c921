"""Keys of our assets that are made per table or view, and the names of steps made from them."""

import re
from typing import Final

import dagster as dg

from lifecycle.names import QualifiedName

# The schema whose relations go by their bare name.
PLAIN_SCHEMA: Final = "public"


def key_of(prefix: str, relation: QualifiedName) -> dg.AssetKey:
    """`prefix / name`, and `prefix / schema / name` outside of schema public.

    Dagster allows letters, digits and underscores in names of steps; anything else that the database allows is written
    as its code.
    """
    path = [relation.name] if relation.schema == PLAIN_SCHEMA else [relation.schema, relation.name]
    return dg.AssetKey(
        [prefix, *(re.sub(r"[^A-Za-z0-9_]", lambda found: f"_{ord(found[0]):x}_", part) for part in path)]
    )


def step_name(key: dg.AssetKey) -> str:
    """A key of ours as the name of a step."""
    return "__".join(key.path)
