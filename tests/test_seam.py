"""The application's own definition is found again inside a view over table and archive, as every version prints it."""

import pytest

from lifecycle.views.seam import inner_definition

WITH = "WITH messages AS NOT MATERIALIZED ( SELECT m.id FROM public.messages m UNION ALL SELECT a.id FROM public.old a)"
INNER = "SELECT messages.id,\n    ')' AS bracket\n   FROM ( SELECT messages.id FROM messages) messages"


@pytest.mark.parametrize("prefix", ["lifecycle_seam.", ""], ids=["until 15", "since 16"])
@pytest.mark.parametrize("after", ["", "\n  ORDER BY id"])
def test_a_definition_is_found_again(prefix: str, after: str) -> None:
    text = f"{WITH}\n SELECT {prefix}id,\n    {prefix}bracket\n   FROM ( {INNER}) lifecycle_seam{after};"
    assert inner_definition(text) == INNER


def test_another_view_has_none() -> None:
    assert inner_definition(INNER) is None
