"""What is read as a trigger that may set the time column, and what is not."""

import pytest

from lifecycle.partitions.stamping import may_set

SETS = (
    "begin new.at := now(); return new; end",
    "begin NEW.At = now(); return new; end",
    'begin new . "at" := now(); return new; end',
    "begin if true then new.at = now(); end if; return new; end",
    "begin select now() into strict new.at; return new; end",
    "begin select 1, now() into new.id, new.at; return new; end",
    "begin execute 'select now()' into new.at using 1; return new; end",
    "begin new := new #= hstore('at', 'now'); return new; end",
    "begin select * into new from t; return new; end",
    "begin fetch c into new; return new; end",
    "declare r record; begin r := new; r.at := now(); return r; end",
    "begin return stamped(new); end",
    "begin /* a */ new.at := now(); /* b */ return new; end",
    "begin x := '--'; new.at := now(); return new; end",
    "begin x := E'\\''; new.at := now(); return new; end",
    "<<l>> new.at := now();",
)
SETS_NOT = (
    "begin return new; end",
    "begin -- new.at := now();\nreturn new; end",
    "begin /* new.at := now(); */ return new; end",
    "begin if new.at = old.at then raise 'the same'; end if; return new; end",
    "begin new.attempts := 1; return new; end",
    "begin new.seen_at := new.at; return new; end",
    "begin insert into log values ('x; new.at := now()'); return case when tg_op = 'DELETE' then old else new end; end",
    "begin return coalesce(new, old); end",
    "declare r t; begin r := new; r.note := 'x'; return r; end",
)


@pytest.mark.parametrize("source", SETS)
def test_sets(source: str) -> None:
    assert may_set("plpgsql", source, "", "at")


@pytest.mark.parametrize("source", SETS_NOT)
def test_sets_not(source: str) -> None:
    assert not may_set("plpgsql", source, "", "at")


def test_other_languages() -> None:
    assert may_set("c", "moddatetime", "at ", "at")
    assert not may_set("c", "moddatetime", "changed_at ", "at")
    assert may_set("plv8", "NEW.at = new Date(); return NEW;", "", "at")
    assert not may_set("plpython3u", "return None", "", "at")
