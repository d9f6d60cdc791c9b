"""Files of a declared base."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltadex.bases.declared import REGISTERED, locate_base
from deltadex.downloads.cache import Hold
from deltadex.downloads.files import Files
from deltadex.downloads.hub import hub_files, is_hub_name
from deltadex.errors import BaseNotFound, CheckpointError
from deltadex.registry.artifacts import base_files
from deltadex.registry.client import Registry
from deltadex.settings import Settings

log = logging.getLogger(__name__)


def base_files_of(settings: Settings, registry: Registry, base_name: str, hold: Hold) -> Files:
    """Return the files of a declared base; if the settings do not map it, from the configured hub mirror.

    Raises
    ------
    BaseNotFound
        The settings do not give its location, or do not allow the one that the version names.
    """
    parallel = settings.cache.parallel_files
    try:
        where = locate_base(base_name, settings.bases, settings.sources)
    except BaseNotFound:
        if settings.hub_url is None or not is_hub_name(base_name):
            raise
        return hub_files(settings.hub_url, base_name, hold, parallel=parallel)
    with hiding_details(settings, base_name):
        return base_files(registry, where, hold, parallel=parallel)


@contextmanager
def hiding_details(settings: Settings, base_name: str) -> Iterator[None]:
    """Leave the details out of errors about a base that a version names itself: its files may be another team's."""
    try:
        yield
    except CheckpointError as error:
        is_known = base_name in settings.bases or base_name in settings.bases.values()
        if is_known or error.retryable or not _is_place(base_name):
            raise
        log.warning("base cannot be read base=%r reason=%r", base_name, error.message)
        raise BaseNotFound(
            f"The base {base_name} cannot be read", hint="An administrator finds the reason in the worker's log."
        ) from error


def _is_place(base_name: str) -> bool:
    return base_name.startswith(REGISTERED) or Path(base_name).is_absolute()
