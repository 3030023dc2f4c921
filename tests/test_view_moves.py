"""Which definitions say something else as time goes by, and which say something else to each reader."""

import pytest

from lifecycle.errors import RefusedError
from lifecycle.views.keys import moves, require_one_answer


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("count(*)", "never"),
        ("max(a.t) - '7 days'::interval", "never"),
        ("age(a.t, a.u)", "never"),
        ("('now'::text || a.x)", "never"),
        ("age(a.t)", "daily"),
        ("CURRENT_DATE - a.d", "daily"),
        ("('now'::text)::date", "always"),
        ("('yesterday'::text)::timestamp without time zone", "always"),
        ("now() - a.t", "always"),
        ("CURRENT_TIMESTAMP", "always"),
        ("LOCALTIMESTAMP", "always"),
        ("CURRENT_TIME", "always"),
        ("statement_timestamp()", "always"),
        ("random()", "always"),
        ("gen_random_uuid()", "always"),
        ("CURRENT_DATE - a.d, now()", "always"),
    ],
)
def test_moves(shown: str, expected: str) -> None:
    assert moves(f"SELECT {shown} FROM public.a", []) == expected
    within = (
        f"WITH w AS (SELECT a.t FROM public.a WHERE a.y IS NOT DISTINCT FROM ({shown.split(', n')[0]})) SELECT 1 FROM w"
    )
    assert moves(within, []) == ("daily" if ", n" in shown else expected)


def test_nobody_knows_what_a_function_of_the_application_does() -> None:
    assert moves("SELECT public.told(a.x) FROM public.a", ["public.told(integer)"]) == "always"


@pytest.mark.parametrize(
    "asked", ["CURRENT_USER", "SESSION_USER", "USER", "CURRENT_ROLE", "CURRENT_SCHEMA", "current_setting('x'::text)"]
)
def test_what_answers_each_reader_differently_is_refused(asked: str) -> None:
    with pytest.raises(RefusedError, match="may answer each reader differently"):
        require_one_answer(f"SELECT {asked} FROM public.a", [])
    require_one_answer('SELECT a."user" FROM public.a', [])
