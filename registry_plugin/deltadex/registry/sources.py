"""Allowed places of files: the author of a version names any place, which a worker then reads."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from deltadex.errors import UnsupportedCheckpoint
from deltadex.setting_groups import SourceSettings


def check_source(uri: str, *, tracking_uri: str, allowed: SourceSettings, where: str) -> None:
    """Raise UnsupportedCheckpoint unless workers may read the artifacts behind a URI; see `is_allowed`.

    The message is the same whether or not the place exists.
    """
    if not is_allowed(uri, tracking_uri=tracking_uri, allowed=allowed):
        raise UnsupportedCheckpoint(
            f"The files of {where} lie outside the artifact stores and folders that Deltadex reads",
            hint="Log the model to MLflow's own artifact store, or have the place added to DELTADEX_SOURCES__STORES or "
            "DELTADEX_SOURCES__FOLDERS.",
        )


def is_allowed(uri: str, *, tracking_uri: str, allowed: SourceSettings) -> bool:
    """Return True if workers may read and write artifacts at a URI, with `models:/` and `runs:/` resolved.

    The configured MLflow server always is; it is the only one that is sent its credentials.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        return parts.netloc in ("", "localhost") and is_allowed_folder(Path(url2pathname(parts.path)), allowed)
    if parts.scheme == "mlflow-artifacts" and not parts.netloc:  # the configured server's own store
        return True
    if parts.scheme in ("http", "https"):
        return _origin(uri) == _origin(tracking_uri)
    return any(_is_below(uri, store) for store in allowed.stores)


def is_allowed_folder(folder: Path, allowed: SourceSettings) -> bool:
    """Return True if a local folder, with all links followed, is one of the allowed ones or below one."""
    try:
        real = folder.resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, a name with a NUL
        return False
    return folder.is_absolute() and any(real.is_relative_to(root.resolve()) for root in allowed.folders)


def _is_below(uri: str, store: str) -> bool:
    """Return True if a URI is a store's URI or below it; a store without a host, such as `s3://`, has all hosts."""
    one, top = urlsplit(uri), urlsplit(store)
    path = PurePosixPath(unquote(one.path) or "/")
    is_same_host = not top.netloc or one.netloc == top.netloc
    is_inside = ".." not in path.parts and path.is_relative_to(unquote(top.path) or "/")
    return one.scheme == top.scheme and is_same_host and is_inside


def _origin(uri: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(uri)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
