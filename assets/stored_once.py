"""Metadata of a materialization, stored once, and its pictures only when they change.

What an asset returns as metadata Dagster stores twice: with the step's output and with the materialization. What is
added to the materialization alone stands there alone, and reads the same in the UI.
"""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import dagster as dg

# A picture that did not change is stored again after that long, or the run that shows it might have been pruned.
LONGEST_LINK: Final = timedelta(days=7)
LINK: Final = re.compile(r'\[unchanged since .*\]\((?P<place>[^ ]+asOf=(?P<at>\d+)) "(?P<digest>[0-9a-f]+)"\)')


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _link(place: str, at: datetime, digest: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f'[unchanged since {at:%Y-%m-%d %H:%M} UTC]({place} "{digest}")')


def _is_picture(value: object) -> bool:
    return isinstance(value, dg.MarkdownMetadataValue) and (value.md_str or "").startswith("![")


def last_picture(instance: dg.DagsterInstance, key: dg.AssetKey, name: str) -> dg.MarkdownMetadataValue | None:
    """A link to the materialization that shows the picture as it was last; None where that is old, or nowhere.

    The link's title holds the picture's digest.
    """
    event = instance.get_latest_materialization_event(key)
    made = event.asset_materialization if event else None
    found = made.metadata.get(name) if made else None
    if event is None or not isinstance(found, dg.MarkdownMetadataValue):
        return None
    if _is_picture(found):
        at = datetime.fromtimestamp(event.timestamp, UTC)
        # The UI counts milliseconds, and must not look before the event.
        path = "/".join(quote(part, safe="") for part in key.path)
        link = _link(
            f"/assets/{path}?view=events&asOf={int(event.timestamp * 1000) + 1}", at, _digest(found.md_str or "")
        )
    elif match := LINK.fullmatch(found.md_str or ""):
        at, link = datetime.fromtimestamp(int(match["at"]) / 1000, UTC), found
    else:
        return None
    return link if datetime.now(UTC) - at < LONGEST_LINK else None


def stored_once(context: dg.AssetExecutionContext, result: dg.MaterializeResult[None]) -> dg.MaterializeResult[None]:
    """The result without its metadata, which stand in the materialization alone.

    A picture that the last one shows, too, becomes a link to where it stands.
    """
    asset = result.asset_key or context.asset_key
    metadata: dict[str, Any] = dict(result.metadata or {})
    for name, value in metadata.items():
        if _is_picture(value):
            link = last_picture(context.instance, asset, name)
            if link is not None and f'"{_digest(value.md_str)}"' in (link.md_str or ""):
                metadata[name] = link
    context.add_asset_metadata(metadata, asset)
    return dg.MaterializeResult(asset_key=result.asset_key)
