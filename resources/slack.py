"""Slack as a Dagster resource: how a message gets there, by a bot or by a webhook, and what Slack's answers mean."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.error import URLError

from dagster_slack import SlackResource
from pydantic import Field
from slack_sdk.errors import SlackApiError
from slack_sdk.web.client import WebClient
from slack_sdk.web.slack_response import SlackResponse

from lifecycle.errors import NotDeliveredError
from resources import webhook
from resources.variables import CHANNEL_VARIABLE, TOKEN_VARIABLE, WEBHOOK_VARIABLE

BASE_URL: Final = "https://slack.com/api/"
UI_URL: Final = "http://127.0.0.1:3000"
TIMEOUT_SECONDS: Final = 10
EVENT_TYPE: Final = "lifecycle_notification"
PAGE_SIZE: Final = 200
MOST_PAGES: Final = 3

_TOKEN = f"set {TOKEN_VARIABLE} to a valid bot token where the daemon starts, then restart it"
NEXT_STEPS: Final = {
    **dict.fromkeys(("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"), _TOKEN),
    "channel_not_found": f"set {CHANNEL_VARIABLE} to the id of a channel that the app can see",
    "not_in_channel": "invite the app: /invite @its-name in the channel",
    "is_archived": f"unarchive the channel, or set {CHANNEL_VARIABLE} to another",
    "missing_scope": "add the scope to the app (chat:write to send), install it again",
    "restricted_action": "let the app post in this channel, in the workspace's settings",
}
# Slack says that a part of the work may have been done before these.
UNCERTAIN: Final = ("fatal_error", "internal_error", "request_timeout", "service_unavailable", "team_added_to_org")


class Slack(SlackResource):
    """One channel of one workspace, to which the app of the token may write, or into which the webhook leads.

    The bot where its token and its channel are set, since it can do more; else the webhook.
    """

    token: str = Field(
        default="", repr=False, description="bot token with the scope chat:write; without one, messages wait"
    )
    channel: str = Field(default="", description="id of the channel, such as C0123456789")
    webhook_url: str = Field(default="", repr=False, description="address of an incoming webhook; a secret")
    base_url: str = Field(default=BASE_URL, description="where Slack's API is")
    ui_url: str = Field(default=UI_URL, description="where people open Dagster's UI, for the links to runs")
    timeout_seconds: int = Field(default=TIMEOUT_SECONDS, description="how long an answer may take")

    @property
    def by_webhook(self) -> bool:
        """Whether messages go through the webhook: none of them can be edited or looked for."""
        return bool(self.webhook_url) and not (self.token and self.channel)

    @property
    def missing_variables(self) -> str | None:
        """Names of the environment variables without which nothing can be sent; None where it can."""
        values = {TOKEN_VARIABLE: self.token, CHANNEL_VARIABLE: self.channel}
        missing = [name for name, value in values.items() if not value]
        if not missing or self.by_webhook:
            return None
        return " and ".join(missing) + (f", or {WEBHOOK_VARIABLE}" if len(missing) == len(values) else "")

    def get_client(self) -> WebClient:
        """A client that tries once: its own retries would send a message again that Slack already has."""
        return WebClient(self.token, base_url=self.base_url, timeout=self.timeout_seconds, retry_handlers=[])

    def post(self, message: Mapping[str, Any], payload: Mapping[str, Any]) -> tuple[str, str]:
        """Send a message marked with `payload`; its channel's id and its ts. Raises NotDeliveredError.

        Of a message that went through the webhook the channel is `webhook.CHANNEL` and the ts empty; it has no mark.
        """
        if self.by_webhook:
            webhook.post(self.webhook_url, message, self.timeout_seconds)
            return webhook.CHANNEL, ""
        metadata = {"event_type": EVENT_TYPE, "event_payload": dict(payload)}
        # Links to the UI would unfold into previews that nobody outside can load.
        answer = self._call(
            "chat.postMessage",
            {"channel": self.channel, "metadata": metadata, "unfurl_links": False, "unfurl_media": False, **message},
        )
        return str(answer["channel"]), str(answer["ts"])

    def edit(self, channel: str, ts: str, message: Mapping[str, Any]) -> None:
        """Replace a message that was sent. Raises NotDeliveredError."""
        self._call("chat.update", {"channel": channel, "ts": ts, **message})

    def find(self, payload: Mapping[str, Any], since: datetime) -> tuple[str, str] | None:
        """The channel and ts of the message that carries `payload`, sent after `since`; None if there is none.

        Looks at no more than 600 messages. Raises NotDeliveredError, with code missing_scope where the app may not
        read the channel, channel_not_found where the channel is given by name and webhook where there is only that.
        """
        if self.by_webhook:
            raise NotDeliveredError("a webhook shows no messages", code=webhook.CHANNEL)
        wanted = {"event_type": EVENT_TYPE, "event_payload": dict(payload)}
        cursor = ""
        for _ in range(MOST_PAGES):
            page = {"cursor": cursor} if cursor else {}
            answer = self._call(
                "conversations.history",
                {
                    "channel": self.channel,
                    "oldest": f"{since.timestamp():.6f}",
                    "limit": PAGE_SIZE,
                    "include_all_metadata": True,
                    **page,
                },
            )
            for found in answer.get("messages") or []:
                if found.get("metadata") == wanted:
                    return self.channel, str(found["ts"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                break
        return None

    def _call(self, method: str, arguments: dict[str, Any]) -> SlackResponse:
        # The client would quote a token that is no header value in its error, and log it.
        if not re.fullmatch(r"[!-~]+", self.token.strip()):
            raise NotDeliveredError(f"{TOKEN_VARIABLE} is no token: {_TOKEN}", code="invalid_auth", permanent=True)
        try:
            if method == "conversations.history":
                return self.get_client().api_call(method, params=arguments)
            return self.get_client().api_call(method, json=arguments)
        except SlackApiError as error:
            raise _refusal(method, error.response) from None
        except Exception as error:
            reason = error.reason if isinstance(error, URLError) else error
            # Nobody listens: Slack cannot have it. After anything else it can.
            refused = isinstance(reason, ConnectionRefusedError)
            text = f"{method}: no answer from Slack ({type(reason).__name__})"
            raise NotDeliveredError(text, code="no_answer", in_doubt=not refused) from None


def _refusal(method: str, answer: SlackResponse) -> NotDeliveredError:
    if answer.status_code == 429:
        header = str(answer.headers.get("Retry-After"))
        wait = float(header) if header.isdecimal() else 30.0
        return NotDeliveredError(f"{method}: Slack asks to wait {wait:.0f} s", code="ratelimited", retry_after=wait)
    if answer.status_code >= 500:
        text = f"{method}: Slack answered {answer.status_code}"
        return NotDeliveredError(text, code=f"http_{answer.status_code}", in_doubt=True)
    code = str(answer.get("error") or "unknown_error")
    if not re.fullmatch(r"\w+", code):
        # A proxy's page, not Slack's answer.
        return NotDeliveredError(f"{method}: the answer is not Slack's", code="no_answer", in_doubt=True)
    step = NEXT_STEPS.get(code)
    text = f"{method}: Slack says {code}" + (f": {step}" if step else "")
    return NotDeliveredError(text, code=code, in_doubt=code in UNCERTAIN, permanent=step is not None)
