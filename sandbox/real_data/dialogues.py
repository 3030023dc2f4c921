"""JMultiWOZ-TC dialogues as chat, their look-ups as search queries."""

import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import count, cycle

from sandbox.real_data import files
from sandbox.real_data.files import csv_rows
from sandbox.real_data.material import Dialogue, Material, row_id
from sandbox.rows.copying import line


def session_lines(material: Material) -> Iterator[str]:
    """chat_sessions: id, account_id, title, started_at, last_activity_at, closed_at, metadata."""
    for dialogue in material.dialogues():
        last = dialogue.time_of(len(dialogue.messages))
        title = dialogue.messages[0]["content"][:40]
        calls = [call["name"] for message in dialogue.messages for call in message.get("tool_calls", ())]
        figures = {"totalMessages": len(dialogue.messages) + len(calls), "functionsUsed": sorted(set(calls))}
        metadata = {"source": "JMultiWOZ-TC", "metrics": figures}
        yield line(dialogue.id, dialogue.account, title, dialogue.start, last, last, metadata)


def message_lines(material: Material) -> Iterator[str]:
    """chat_messages: id, session_id, role, content, tool_calls, latency_ms, created_at, sequence.

    A role=tool row stands for each call; its content is empty, because the source has no output of tools.
    """
    latencies = cycle(
        round(float(row["end_to_end_latency_s"]) * 1000)
        for row in csv_rows(material.folder, files.LATENCIES)
        if not row["error_code"]
    )
    for dialogue in material.dialogues():
        sequence = count(1)
        for place, message in enumerate(dialogue.messages):
            at = dialogue.time_of(place)
            latency = next(latencies) if message["role"] == "assistant" else None
            yield line(
                *(row_id(dialogue.id, place), dialogue.id, message["role"], message["content"], None, latency, at),
                next(sequence),
            )
            for number, call in enumerate(message.get("tool_calls", ()), start=1):
                calls = [{"tool": call["name"], "arguments": call["arguments"]}]
                then = at + timedelta(seconds=number)
                message_id = row_id(dialogue.id, place, number)
                yield line(message_id, dialogue.id, "tool", "", calls, None, then, next(sequence))


def search_lines(material: Material) -> Iterator[str]:
    """search_queries: id, account_id, session_id, search_query, search_source, search_context, page_url,
    searched_at, created_at. Numbers of results and clicks are not in the source."""
    known: dict[str, Dialogue] = {dialogue.id: dialogue for dialogue in material.dialogues()}
    for row in csv_rows(material.folder, files.SEARCHES):
        dialogue = known[row_id("dialogue", row["dialogue_id"])]
        # Turns count the user's messages only; the assistant's stand between them.
        at = dialogue.time_of(2 * int(row["user_turn"])) + timedelta(milliseconds=100 * int(row["call_no"]))
        yield line(
            row_id("search", row["data_id"], row["call_no"], row["dialogue_id"]),
            *(dialogue.account, dialogue.id, row["user_utterance"], row["tool"]),
            *(json.loads(row["arguments_json"]), "/chat", at, at),
        )
