"""Sample rows without open requests of their own: `pytest_plugins = ("tests.erasure_fixtures",)`."""

import pytest

from lifecycle.database import connect
from tests.conftest import MakeApplicationDb
from tests.erasure_requests import settle_old_requests


@pytest.fixture
def settled_url(make_application_db: MakeApplicationDb) -> str:
    """URL of a fresh migrated database in which nobody waits to be erased."""
    made = make_application_db(migrated=True)
    with connect(made) as conn:
        settle_old_requests(conn)
    return made
