"""Supabase's linter (supabase/splinter) after `lifecycle migrate`: nothing of ours that no reason is declared for.

The linter is that of Supabase's command line, which `make linter` installs. The reasons are a table of
docs/explanation/supabase-linter.md.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from lifecycle.database import connect
from tests.conftest import MakeApplicationDb
from tests.docs_pages import ROOT
from tests.partitioned import MakePartitionedDb

pytestmark = pytest.mark.every_version
pytest_plugins = ("tests.partitioned_fixtures",)

LINTER = Path(sys.prefix) / "linter/node_modules/.bin/supabase"
PAGE = ROOT / "docs/explanation/supabase-linter.md"
ROW = re.compile(r"^\| `(\w+)` \| `([\w.*]+)` \| (.+) \|$", re.MULTILINE)
# What a careless edition of ours would leave behind.
CARELESS = """
create table lifecycle.careless (account text);
create function lifecycle.careless() returns bigint language sql as 'select 1::bigint';
create view public.careless as select * from public.accounts;
grant select on public.careless to anon;
"""


@dataclass(frozen=True)
class Lint:
    """What the linter says of one object; `key` tells it from its other words about that object."""

    name: str
    object: str
    key: str


def linted(url: str, home: Path) -> frozenset[Lint]:
    if not LINTER.exists():
        pytest.fail("Supabase's command line is not installed: make linter")
    command = [str(LINTER), "db", "advisors", "--level", "info", "--output-format", "json"]
    # Its own folders are those of the test; it asks nobody but the database.
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [*command, "--db-url", f"{url}?sslmode=disable"],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)["results"]
    return frozenset(
        Lint(row["name"], f"{row['metadata']['schema']}.{row['metadata']['name']}", row["cacheKey"]) for row in found
    )


def reasons() -> list[tuple[str, str]]:
    """Lint and object of every row of the page; an object may end in a star."""
    return [(lint, pattern) for lint, pattern, _why in ROW.findall(PAGE.read_text(encoding="utf-8"))]


def undeclared(found: Iterable[Lint]) -> list[Lint]:
    return sorted(
        (
            lint
            for lint in found
            if not any(name == lint.name and fnmatchcase(lint.object, pattern) for name, pattern in reasons())
        ),
        key=lambda lint: (lint.name, lint.object),
    )


def test_the_linter_finds_nothing_of_ours_without_a_reason(
    make_application_db: MakeApplicationDb, make_partitioned_db: MakePartitionedDb, tmp_path: Path
) -> None:
    # First those with the role ops: the linter repeats what it says of the application's policies for every role.
    after = make_partitioned_db(), make_application_db(rows=False, migrated=True, december=True)
    before = make_application_db(rows=False), make_application_db(rows=False, december=True)
    november, december = (linted(url, tmp_path) for url in before)
    assert {lint.name for lint in november} >= {"rls_disabled_in_public", "security_definer_view"}
    ours = (linted(after[0], tmp_path) - november) | (linted(after[1], tmp_path) - december)
    assert undeclared(ours) == []
    for name, pattern in reasons():
        assert any(lint.name == name and fnmatchcase(lint.object, pattern) for lint in ours), (name, pattern)


def test_what_nobody_declared_is_seen(make_application_db: MakeApplicationDb, tmp_path: Path) -> None:
    url = make_application_db(rows=False, migrated=True)
    before = linted(url, tmp_path)
    with connect(url) as conn:
        conn.execute(CARELESS.encode())
    assert {(lint.name, lint.object) for lint in undeclared(linted(url, tmp_path) - before)} == {
        ("no_primary_key", "lifecycle.careless"),
        ("function_search_path_mutable", "lifecycle.careless"),
        ("security_definer_view", "public.careless"),
    }
