"""A small Slack for tests and the demo: the three calls and the webhook that are used here, and a page of the channel.

By hand: `python -m sandbox.slack_server 3001`, then SLACK_BASE_URL=http://127.0.0.1:3001/api/ with any token, or the
SLACK_WEBHOOK_URL that it prints.
"""

import html
import json
import re
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl

CHANNEL_ID: Final = "C0SANDBOX"
RETRY_AFTER_SECONDS: Final = 7
WEBHOOK: Final = "webhook"
WEBHOOK_PATH: Final = "/services/T0SANDBOX/B0SANDBOX/secret-of-the-sandbox"
# What Slack answers a webhook with, as plain text.
WEBHOOK_STATUS: Final = {
    "ok": 200,
    **dict.fromkeys(("invalid_payload", "invalid_blocks", "no_text"), 400),
    **dict.fromkeys(("action_prohibited", "invalid_token"), 403),
    **dict.fromkeys(("no_service", "channel_not_found"), 404),
    "channel_is_archived": 410,
}
PAGE: Final = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>Slack sandbox</title>
<style>body{{font:15px sans-serif;max-width:50em;margin:2em auto}}pre{{background:#f4f4f4;padding:.5em;overflow:auto}}
article{{border-left:4px solid #999;padding:.2em 1em;margin:1.5em 0}}small{{color:#666}}</style>
<h1>#lifecycle</h1><p>{count} messages. A sandbox: nothing leaves this machine.</p>{messages}"""


@dataclass
class Message:
    """A message as the channel shows it now; `edits` is how often it was edited."""

    ts: str
    text: str
    blocks: list[dict[str, Any]]
    metadata: dict[str, Any] | None
    edits: int = 0


@dataclass
class Channel:
    """What the server knows, and how it behaves.

    `modes` maps a method, "webhook" or "*", to ok, rate_limited (429), server_error (500), garbage (no JSON), slow
    (does the work, answers late), slow_and_lost (answers late, does nothing), or one of Slack's error codes.
    """

    messages: list[Message] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    modes: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 2.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def mode(self, method: str) -> str:
        return self.modes.get(method, self.modes.get("*", "ok"))

    def called(self, method: str) -> list[dict[str, Any]]:
        """The arguments of every call of a method."""
        return [arguments for name, arguments in self.calls if name == method]

    def perform(self, method: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a call asks and answer as Slack does."""
        if method == "chat.postMessage":
            number = len(self.messages)
            message = Message(
                f"{time.time():.0f}.{number:06d}",
                arguments.get("text", ""),
                arguments.get("blocks", []),
                arguments.get("metadata"),
            )
            self.messages.append(message)
            return {"ok": True, "channel": CHANNEL_ID, "ts": message.ts}
        if method == "chat.update":
            for message in self.messages:
                if message.ts == arguments["ts"]:
                    message.text, message.blocks = arguments.get("text", ""), arguments.get("blocks", [])
                    message.edits += 1
                    return {"ok": True, "channel": CHANNEL_ID, "ts": message.ts}
            return {"ok": False, "error": "message_not_found"}
        if method == "conversations.history":
            since = float(arguments.get("oldest", 0))
            found = [m for m in reversed(self.messages) if float(m.ts) >= since]
            shown = [
                {"ts": m.ts, "text": m.text, "blocks": m.blocks, **({"metadata": m.metadata} if m.metadata else {})}
                for m in found
            ]
            return {"ok": True, "messages": shown[: int(arguments.get("limit", 100))]}
        return {"ok": False, "error": "unknown_method"}

    def take(self, body: str) -> str:
        """Do what a webhook is asked and answer as Slack does."""
        try:
            arguments = json.loads(body)
        except ValueError:
            return "invalid_payload"
        if not isinstance(arguments, dict):
            return "invalid_payload"
        if not arguments.get("text") and not arguments.get("blocks"):
            return "no_text"
        self.perform("chat.postMessage", {name: arguments[name] for name in ("text", "blocks") if name in arguments})
        return "ok"

    def page(self) -> str:
        """The channel for people."""
        shown = "".join(f"<article>{_message_html(message)}</article>" for message in reversed(self.messages))
        return PAGE.format(count=len(self.messages), messages=shown or "<p>Nothing yet.</p>")


def _text_html(text: str) -> str:
    """Slack's mrkdwn, as far as it is used here. Its text is escaped already, but for what stands in angle brackets."""
    text = re.sub(r"<!date\^[^|>]*\|([^>]*)>", r"\1", text)
    parts = re.split(r"<(https?://[^|>]+)\|([^>]*)>", text)
    safe = [html.escape(html.unescape(part)) for part in parts]
    linked = "".join(
        part if place % 3 == 0 else f'<a href="{part}">{safe[place + 1]}</a>' if place % 3 == 1 else ""
        for place, part in enumerate(safe)
    )
    linked = re.sub(r"```(.*?)```", r"<pre>\1</pre>", linked, flags=re.DOTALL)
    linked = re.sub(r"(?m)^\*(.+?)\*$", r"<b>\1</b>", linked)
    emoji = {":red_circle:": "\N{LARGE RED CIRCLE}", ":white_check_mark:": "\N{WHITE HEAVY CHECK MARK}"}
    emoji[":large_green_circle:"] = "\N{LARGE GREEN CIRCLE}"
    for name, sign in emoji.items():
        linked = linked.replace(name, sign)
    return linked.replace("\n", "<br>")


def _message_html(message: Message) -> str:
    shown = []
    for block in message.blocks or [{"type": "section", "text": {"text": message.text}}]:
        texts = block["elements"] if block["type"] == "context" else [block["text"]]
        tag = {"header": "h3", "context": "small"}.get(block["type"], "div")
        shown += [f"<{tag}>{_text_html(text['text'])}</{tag}>" for text in texts]
    edited = f"<p><small>edited {message.edits} times</small></p>" if message.edits else ""
    return "".join(shown) + edited


class _Handler(BaseHTTPRequestHandler):
    server: "_HTTPServer"

    def do_GET(self) -> None:
        """The page of the channel."""
        with self.server.channel.lock:
            page = self.server.channel.page()
        self._answer(200, page.encode(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """One call of the Web API, in the mode that is set for it."""
        channel, method = self.server.channel, self.path.rpartition("/")[2]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path.startswith("/services/"):
            return self._webhook(body)
        is_json = self.headers.get_content_type() == "application/json"
        arguments = json.loads(body) if is_json else dict(parse_qsl(body))
        with channel.lock:
            mode = channel.mode(method)
            channel.calls.append((method, arguments))
            answer = channel.perform(method, arguments) if mode in ("ok", "slow") else {"ok": False, "error": mode}
        if mode.startswith("slow"):
            time.sleep(channel.delay_seconds)
        if mode == "garbage":
            return self._answer(200, b"<html>a proxy's page</html>", "text/html")
        if mode == "rate_limited":
            self._answer(429, b'{"ok": false, "error": "ratelimited"}', retry_after=RETRY_AFTER_SECONDS)
        elif mode == "server_error":
            self._answer(500, b"oops", "text/plain")
        else:
            self._answer(200, json.dumps(answer).encode())
        return None

    def _webhook(self, body: str) -> None:
        """One message for the webhook, in the mode that is set for it."""
        channel = self.server.channel
        with channel.lock:
            mode = channel.mode(WEBHOOK)
            channel.calls.append((WEBHOOK, {"body": body}))
            if self.path != WEBHOOK_PATH:
                answer = "no_service"
            else:
                answer = channel.take(body) if mode in ("ok", "slow") else mode
        if mode.startswith("slow"):
            time.sleep(channel.delay_seconds)
        if mode == "garbage":
            self._answer(200, b"<html>a proxy's page</html>", "text/html")
        elif mode == "rate_limited":
            self._answer(429, b"rate_limited", "text/plain", retry_after=RETRY_AFTER_SECONDS)
        else:
            self._answer(WEBHOOK_STATUS.get(answer, 500), answer.encode(), "text/plain")

    def _answer(
        self, status: int, body: bytes, kind: str = "application/json", *, retry_after: int | None = None
    ) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if retry_after is not None:
                self.send_header("Retry-After", str(retry_after))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client had waited long enough

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the page shows what arrived."""


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    channel: Channel


class SlackServer:
    """Slack on a port of this machine; `with SlackServer() as slack:` stops it afterwards."""

    def __init__(self, port: int = 0) -> None:
        self.channel = Channel()
        self._server = _HTTPServer(("127.0.0.1", port), _Handler)
        self._server.channel = self.channel
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where the page is; the API is below it."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    @property
    def base_url(self) -> str:
        return f"{self.url}api/"

    @property
    def webhook_url(self) -> str:
        return f"{self.url.rstrip('/')}{WEBHOOK_PATH}"

    def __enter__(self) -> "SlackServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port: from now on nobody listens. Safe to repeat."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def main(port: int) -> None:
    """Serve until interrupted."""
    with SlackServer(port) as slack:
        sys.stdout.write(
            f"the channel: {slack.url}\nSLACK_BASE_URL={slack.base_url}\nSLACK_WEBHOOK_URL={slack.webhook_url}\n"
        )
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
