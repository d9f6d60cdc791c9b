"""Options that several commands share, and the settings that result from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deltadex.errors import DeltadexError
from deltadex.settings import Settings, load_settings
from deltadex.versions import labels

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the embedded stack.", show_default=False, file_okay=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TrackingUri = Annotated[str | None, typer.Option("--tracking-uri", help="URL of an existing MLflow server.")]
DatabaseUrl = Annotated[str | None, typer.Option("--database-url", help="URL of an existing Postgres with pgvector.")]
PrefectUrl = Annotated[str | None, typer.Option("--prefect-api-url", help="API URL of an existing Prefect server.")]
VersionLabel = Annotated[str, typer.Argument(metavar="NAME/VERSION", help="A model version.", show_default=False)]


def settings_from(
    data_dir: Path | None = None,
    *,
    tracking_uri: str | None = None,
    database_url: str | None = None,
    prefect_api_url: str | None = None,
) -> Settings:
    """Read the settings; options override the environment."""
    options: dict[str, Any] = {
        "data_dir": data_dir and data_dir.absolute(),
        "tracking_uri": tracking_uri,
        "prefect_api_url": prefect_api_url,
        "database": {"url": database_url} if database_url else None,
    }
    return load_settings(**options)


def parse_label(label: str) -> tuple[str, int]:
    """Split `NAME/VERSION`.

    Raises
    ------
    typer.BadParameter
        There is no version number behind the last slash.
    """
    try:
        return labels.parse_label(label)
    except DeltadexError as error:
        raise typer.BadParameter(f"{error.message}. {error.hint}") from error
