"""Slack's incoming webhooks: one address that takes messages for one channel. The address is the secret.

A webhook only takes messages. It names none, so that none can be edited, and none can be looked for.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.error import URLError

from slack_sdk.webhook import WebhookClient, WebhookResponse

from lifecycle.errors import NotDeliveredError
from resources.variables import WEBHOOK_VARIABLE

# Where the outbox keeps the id of a channel: a webhook tells none.
CHANNEL: Final = "webhook"
_NEW: Final = f"make a new webhook, set {WEBHOOK_VARIABLE} where the daemon starts, then restart it"
NEXT_STEPS: Final = {
    **dict.fromkeys(("no_service", "no_service_id", "no_active_hooks", "no_team", "invalid_token"), _NEW),
    **dict.fromkeys(("channel_not_found", "channel_is_archived"), f"unarchive its channel, or {_NEW}"),
    **dict.fromkeys(
        ("action_prohibited", "posting_to_general_channel_denied"),
        "let the webhook post in this channel, in the workspace's settings",
    ),
}
# The client writes the address into its log, and into those of its errors that it logs.
SILENT: Final = logging.getLogger(f"{__name__}.silent")
SILENT.disabled = True


def post(url: str, message: Mapping[str, Any], timeout_seconds: int) -> None:
    """Send a message once. Raises NotDeliveredError, which never names the address."""
    if not re.fullmatch(r"https?://[!-~]+", url):
        raise NotDeliveredError(f"{WEBHOOK_VARIABLE} is no address: {_NEW}", code="invalid_token", permanent=True)
    client = WebhookClient(url, timeout=timeout_seconds, retry_handlers=[], logger=SILENT)
    try:
        answer = client.send_dict({"unfurl_links": False, "unfurl_media": False, **message})
    except Exception as error:
        # Slack has all of the message only where the connection stood: until then nothing is in doubt.
        reason = error.reason if isinstance(error, URLError) else error
        text = f"webhook: no answer from Slack ({type(reason).__name__})"
        raise NotDeliveredError(text, code="no_answer", in_doubt=not isinstance(error, URLError)) from None
    if answer.status_code != 200 or answer.body != "ok":
        raise refusal(answer)


def refusal(answer: WebhookResponse) -> NotDeliveredError:
    """What an answer other than ok means."""
    if answer.status_code == 429:
        header = str(answer.headers.get("Retry-After"))
        wait = float(header) if header.isdecimal() else 30.0
        return NotDeliveredError(f"webhook: Slack asks to wait {wait:.0f} s", code="ratelimited", retry_after=wait)
    if answer.status_code >= 500:
        return NotDeliveredError(f"webhook: Slack answered {answer.status_code}", code=f"http_{answer.status_code}")
    code = answer.body.strip()
    if not re.fullmatch(r"[a-z_]{1,60}", code):
        # A proxy's page, not Slack's answer.
        text = f"webhook: the answer ({answer.status_code}) is not Slack's"
        return NotDeliveredError(text, code="no_answer", in_doubt=answer.status_code == 200)
    step = NEXT_STEPS.get(code)
    told = f"webhook: Slack says {code}" + (f": {step}" if step else "")
    return NotDeliveredError(told, code=code, permanent=step is not None)
