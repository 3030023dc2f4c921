"""Somebody outside who expects to hear from us once a day, and alarms when he does not."""

import re
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import dagster as dg
from pydantic import Field

from lifecycle.errors import NotDeliveredError
from resources.variables import WATCHDOG_VARIABLE

TIMEOUT_SECONDS: Final = 10


class Watchdog(dg.ConfigurableResource):
    """An address that is called when all is well. Whoever knows it can call it too, so that it is a secret."""

    url: str = Field(default="", repr=False, description="address to call; without one nobody outside hears of us")
    timeout_seconds: int = Field(default=TIMEOUT_SECONDS, description="how long an answer may take")

    def call(self) -> None:
        """GET the address once. Raises NotDeliveredError, which never names it, for anything but a success."""
        if not re.fullmatch(r"https?://[!-~]+", self.url):
            raise NotDeliveredError(f"{WATCHDOG_VARIABLE} is no address: set it to one that begins with https://")
        request = Request(self.url, headers={"User-Agent": "lifecycle"})  # noqa: S310 - http or https, as asked above
        try:
            with urlopen(request, timeout=self.timeout_seconds):  # noqa: S310
                return
        except HTTPError as error:
            raise NotDeliveredError(f"the watchdog answered {error.code}: is {WATCHDOG_VARIABLE} right?") from None
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise NotDeliveredError(f"no answer from the watchdog ({type(reason).__name__})") from None
