"""What the demo's Slack shows, as text for a terminal."""

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from slack_sdk.web.client import WebClient

from lifecycle.database import Connection, rows
from resources.variables import BASE_URL_VARIABLE, CHANNEL_VARIABLE, TOKEN_VARIABLE

MOST_MESSAGES: Final = 100
KINDS: Final = "select id, kind from lifecycle.notifications"
SIGNS: Final = {
    ":red_circle:": "\N{LARGE RED CIRCLE}",
    ":white_check_mark:": "\N{WHITE HEAVY CHECK MARK}",
    ":large_green_circle:": "\N{LARGE GREEN CIRCLE}",
}


@dataclass(frozen=True)
class Message:
    """One message as the channel shows it now. `ts` is Slack's name for it, `kind` is the outbox's."""

    ts: str
    kind: str
    lines: tuple[str, ...]

    @property
    def at(self) -> datetime:
        """When it was sent; an edit changes nothing here."""
        return datetime.fromtimestamp(float(self.ts), UTC)


def plain(text: str) -> str:
    """Slack's mrkdwn as a person reads it."""
    text = re.sub(r"<!date\^[^|>]*\|([^>]*)>", r"\1", text)
    text = re.sub(r"<https?://[^|>]+\|([^>]*)>", r"\1", text)
    for name, sign in SIGNS.items():
        text = text.replace(name, sign)
    return html.unescape(re.sub(r"(?m)^\*(.+?)\*$", r"\1", text.replace("```", "")))


def _lines(blocks: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    texts = [text for block in blocks for text in block.get("elements", [block.get("text")])]
    return tuple(line for text in texts for line in plain(text["text"]).splitlines())


def read_channel(variables: Mapping[str, str], conn: Connection) -> tuple[Message, ...]:
    """Every message of the channel, oldest first; their kinds are looked up in the outbox by the number they carry."""
    client = WebClient(variables[TOKEN_VARIABLE], base_url=variables[BASE_URL_VARIABLE])
    answer = client.conversations_history(channel=variables[CHANNEL_VARIABLE], limit=MOST_MESSAGES)
    kinds = dict(rows(conn, KINDS))
    return tuple(
        Message(found["ts"], kinds[found["metadata"]["event_payload"]["id"]], _lines(found["blocks"]))
        for found in reversed(answer["messages"])
    )
