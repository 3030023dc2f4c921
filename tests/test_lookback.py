"""Which definitions keep to rows younger than a length of time; whatever is not understood reads everything."""

from datetime import timedelta

import pytest

from lifecycle.declarations.model import shortest_length
from lifecycle.names import QualifiedName
from lifecycle.views.lookback import keeps_within

EVENTS = QualifiedName("public", "e")


def within(definition: str, age: timedelta = timedelta(days=89)) -> bool:
    return keeps_within(definition, EVENTS, "t", age)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("t >= (CURRENT_DATE - '87 days'::interval)", True),
        ("t >= (CURRENT_DATE - '88 days'::interval)", False),  # midnights differ
        ("t >= (now() - '24:00:00'::interval)", True),
        ("t > (CURRENT_DATE - 30)", True),
        ("t >= (now() - '2 mons 20 days'::interval)", True),
        ("t >= (now() - '3 mons'::interval)", False),
        ("t >= (now() - '1 year'::interval)", False),
        ("t >= (date_trunc('week'::text, now()) - '80 days'::interval)", True),
        ("t >= (date_trunc('week'::text, now()) - '85 days'::interval)", False),
        ("t >= date_trunc('year'::text, now())", False),
        ("(now() - '7 days'::interval) < t", True),
        ("((t >= (now() - '7 days'::interval)) AND (t <= now()))", True),
        ("(x AND ((t >= (now() - '7 days'::interval)) AND y))", True),
        ("((t >= (now() - '7 days'::interval)) OR x)", False),
        ("NOT t >= (now() - '7 days'::interval)", False),
        ("t <= (now() - '7 days'::interval)", False),
        ("t >= (now() - '-7 days'::interval)", False),
        ("t >= '2026-01-01 00:00:00+00'::timestamp with time zone", False),
        ("u >= (now() - '7 days'::interval)", False),
        ("t >= u", False),
        ("true", False),
    ],
)
def test_the_where_of_a_select(condition: str, expected: bool) -> None:
    assert within(f"SELECT count(*) AS count FROM public.e WHERE {condition}") is expected


LATELY = "x.t >= (now() - '7 days'::interval)"


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (f"SELECT 1 FROM public.a JOIN public.e x ON a.i = x.i WHERE {LATELY}", True),
        (f"SELECT 1 FROM public.a LEFT JOIN public.e x ON a.i = x.i AND {LATELY}", True),
        (f"SELECT 1 FROM public.a RIGHT JOIN public.e x ON a.i = x.i AND {LATELY}", False),
        (f"SELECT 1 FROM public.a FULL JOIN public.e x ON a.i = x.i AND {LATELY}", False),
        (f"SELECT 1 FROM public.e x LEFT JOIN public.a ON a.i = x.i AND {LATELY}", False),
        (f"SELECT 1 FROM public.e x JOIN public.e y ON x.i = y.i WHERE {LATELY}", False),
        (f"SELECT 1 FROM (public.a JOIN public.e x ON a.i = x.i) WHERE {LATELY}", False),
        (f"SELECT 1 FROM (SELECT * FROM public.e) x WHERE {LATELY}", False),
        ("SELECT 1 FROM public.a, public.e WHERE t >= (now() - '7 days'::interval)", False),
        (f"SELECT 1 FROM public.e x WHERE {LATELY} UNION ALL SELECT 1 FROM public.e", False),
        (f"SELECT 1 FROM public.a WHERE EXISTS (SELECT 1 FROM public.e x WHERE {LATELY})", True),
        (f"SELECT 1 FROM other.e x WHERE {LATELY}", False),
        ("no query at all", False),
    ],
)
def test_every_select_that_reads_the_table(definition: str, expected: bool) -> None:
    assert within(definition) is expected


@pytest.mark.parametrize(
    ("text", "days"), [("1 month", 28), ("3 months", 89), ("4 months", 120), ("1 year 6 months", 546), ("10 weeks", 70)]
)
def test_the_shortest_that_months_can_be(text: str, days: int) -> None:
    assert shortest_length(text) == timedelta(days=days)
