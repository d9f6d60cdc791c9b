"""Workspaces of MLflow that are watched: each is a registry of its own, with rows, findings and reviews of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from deltadex.app import App
from deltadex.errors import DeltadexError, RegistryError
from deltadex.registry.client import Registry
from deltadex.settings import DEFAULT_WORKSPACE, Settings

_ALL = "*"

log = logging.getLogger(__name__)


def watched(registry: Registry, settings: Settings) -> tuple[str, ...]:
    """Return the names of the workspaces that the settings ask for, in order; all that the account sees for `*`.

    Raises
    ------
    RegistryError
        A workspace does not exist, the account may not see it, or the server has no workspaces.
    """
    there = registry.workspaces()
    if _ALL in settings.workspaces:
        return there
    if missing := [name for name in settings.workspaces if name not in there]:
        raise RegistryError(
            f"MLflow has no workspace {missing[0]!r} that Deltadex's account may see",
            hint=f"Correct DELTADEX_WORKSPACES; there are {', '.join(there) or 'none'}.",
        )
    return settings.workspaces


class Tenants:
    """The watched workspaces, each as an app of its own; a single one where MLflow has no workspaces."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._apps: dict[str, App] = {}

    def read(self) -> list[App]:
        """Return the apps of the workspaces that exist now; of those that did at the last read if MLflow is away.

        Raises
        ------
        RegistryError
            As `watched`, at the first read; later errors are logged.
        """
        app = self._app
        if not app.settings.workspaces:
            return [app]
        try:
            names = watched(app.registry, app.settings)
        except DeltadexError as error:
            if not self._apps:
                raise
            log.warning("workspaces not read error=%r hint=%r", error.message, error.hint)
            return list(self._apps.values())
        self._apps = {name: self._apps.get(name) or app.within(name) for name in names}
        return list(self._apps.values())


def each(app: App) -> Iterator[App]:
    """Yield the app of each watched workspace, while this process's requests to MLflow go to it."""
    for tenant in Tenants(app).read():
        with tenant.registry.bound():
            yield tenant


def is_default(app: App) -> bool:
    """Return whether an app is that of MLflow's default workspace."""
    return app.registry.workspace == DEFAULT_WORKSPACE
