"""Prefect blocks: Deltadex's results in the flows of others."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from deltadex.connection import Connection, connect


class DeltadexStore(Block):
    """The database of a Deltadex, to read neighbours, duplicates, drift and findings from.

    Examples
    --------
    >>> with DeltadexStore.load("company").connect() as registry:
    ...     duplicates = registry.duplicates()
    """

    _block_type_name = "Deltadex Store"
    _block_type_slug = "deltadex-store"
    _description = "Reads what Deltadex found about an MLflow registry's finetunes."

    database_url: SecretStr = Field(description="postgresql://… of a login that may read")
    registry: str = Field("default", description="name of the registry in the store, as DELTADEX_REGISTRY")

    def connect(self) -> Connection:
        """Connect to the store; see `deltadex.connect`."""
        return connect(database_url=self.database_url.get_secret_value(), registry=self.registry)
