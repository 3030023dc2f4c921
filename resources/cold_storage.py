"""The store of cold months as a Dagster resource."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from resources.variables import COLD_URL_EXAMPLE, missing_cold_url

if TYPE_CHECKING:
    from lifecycle.cold.storage import ColdStorage


class ColdMonths(dg.ConfigurableResource):
    """Where months go that leave the database: a folder, or a bucket of any store that speaks S3."""

    url: str = Field(default="", description=f"the place, e.g. {COLD_URL_EXAMPLE}")
    access_key: str = Field(default="", repr=False, description="of the bucket; without it the machine's own role")
    secret_key: str = Field(default="", repr=False, description="of the access key")
    session_token: str = Field(default="", repr=False, description="of a temporary access key")
    region: str = Field(default="", description="of the bucket")
    endpoint: str = Field(default="", description="URL of a store that is not AWS's")

    def open(self) -> "ColdStorage | None":
        """The store; None where none is configured. Raises ColdStorageError for a URL that names none."""
        # Loading what reads it takes a third of the time that definitions may take to load.
        from lifecycle.cold.storage import ColdSettings, open_storage

        if not self.url:
            return None
        return open_storage(
            ColdSettings(
                url=self.url,
                access_key=self.access_key,
                secret_key=self.secret_key,
                session_token=self.session_token,
                region=self.region,
                endpoint=self.endpoint,
            )
        )

    def required(self) -> "ColdStorage":
        """The store; dg.Failure that names the variable and shows an example when none is configured."""
        if (storage := self.open()) is None:
            raise dg.Failure(missing_cold_url(), allow_retries=False)
        return storage
