"""Options that several commands share, and the settings they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deltadex.settings import Settings, load_settings

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the embedded stack.", show_default=False, file_okay=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TrackingUri = Annotated[str | None, typer.Option("--tracking-uri", help="An existing MLflow server.")]
DatabaseUrl = Annotated[str | None, typer.Option("--database-url", help="An existing Postgres with pgvector.")]
PrefectUrl = Annotated[str | None, typer.Option("--prefect-api-url", help="An existing Prefect server's API.")]
VersionLabel = Annotated[str, typer.Argument(metavar="NAME/VERSION", help="A model version.", show_default=False)]


def settings_from(
    data_dir: Path | None = None,
    *,
    tracking_uri: str | None = None,
    database_url: str | None = None,
    prefect_api_url: str | None = None,
) -> Settings:
    """Read the settings, with these options before the environment."""
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
    name, _, number = label.rpartition("/")
    if not name or not number.isdigit():
        raise typer.BadParameter(f"{label!r} is not NAME/VERSION, such as sql-writer/3")
    return name, int(number)
