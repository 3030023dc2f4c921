"""The application's own definition is found inside of layers, as every version prints them, and each comes off."""

import pytest

from lifecycle.names import QualifiedName
from lifecycle.views.seam import inner_definition, own_definition

WITH = "WITH messages AS NOT MATERIALIZED ( SELECT m.id FROM public.messages m UNION ALL SELECT a.id FROM public.old a)"
INNER = "SELECT messages.id,\n    ')' AS bracket\n   FROM ( SELECT messages.id FROM messages) messages"
OLD, COLD = QualifiedName("public", "old"), QualifiedName("event_partitions", "events_narrow")
AROUND = (
    "WITH events AS NOT MATERIALIZED ( SELECT m.id FROM public.events m UNION ALL"
    " SELECT a.id FROM event_partitions.events_narrow a)"
)


def tight(text: str | None) -> str:
    return (text or "").replace("( ", "(")


def layer(head: str, prefix: str, inner: str, mark: str = "lifecycle_seam") -> str:
    return f"{head}\n SELECT {prefix}id,\n    {prefix}bracket\n   FROM ( {inner}) {mark}"


@pytest.mark.parametrize("prefix", ["lifecycle_seam.", ""], ids=["until 15", "since 16"])
@pytest.mark.parametrize("after", ["", "\n  ORDER BY {}id"])
def test_a_definition_is_found_again(prefix: str, after: str) -> None:
    renamed = after.format(prefix.replace("seam", "seam_1"))
    after = after.format(prefix)
    text = layer(WITH, prefix, INNER) + after + ";"
    assert own_definition(text) == inner_definition(text, OLD) == INNER
    inner = layer(WITH, prefix, INNER, "lifecycle_seam_1")
    twice = layer(AROUND, prefix, inner) + after + ";"
    assert own_definition(twice) == INNER
    assert tight(inner_definition(twice, OLD)) == tight(layer(AROUND, prefix, INNER) + after + ";")
    assert inner_definition(twice, COLD) == inner + renamed + ";"
    kept = f"SELECT 1 UNION ALL SELECT 1 FROM ( {layer(WITH, prefix, INNER)}) lifecycle_definition WHERE false;"
    assert (
        inner_definition(kept, OLD) == f"SELECT 1 UNION ALL SELECT 1 FROM ({INNER}) lifecycle_definition WHERE false;"
    )


def test_another_view_has_none() -> None:
    assert own_definition(INNER) == INNER
    assert inner_definition(INNER, OLD) is None
    assert inner_definition(layer(WITH, "", INNER), COLD) is None
