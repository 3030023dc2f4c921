"""A Slack of the test's own: `pytest_plugins = ("tests.slack_fixtures",)`."""

from collections.abc import Iterator

import pytest

from resources.slack import Slack
from sandbox.slack_server import SlackServer
from tests.outbox import slack_for


@pytest.fixture
def fake() -> Iterator[SlackServer]:
    with SlackServer() as running:
        yield running


@pytest.fixture
def slack(fake: SlackServer) -> Slack:
    return slack_for(fake)
