"""The mark of the store that an MLflow registry belongs to, as a tag of Deltadex's experiment in MLflow.

Two Deltadexes on one MLflow would overwrite each other's tags and artifacts. And a registry with another mark than the
one that was read before is another registry: taken for ours, all of our versions would seem deleted.
"""

from __future__ import annotations

import logging

from deltadex.errors import RegistryError
from deltadex.registry.client import Registry
from deltadex.registry.connection import registry_errors
from deltadex.registry.run_artifact import own_experiment

_STORE_TAG = "deltadex.store"

log = logging.getLogger(__name__)


def claim(registry: Registry, store_id: str, *, takes_over: bool = False) -> None:
    """Mark a registry that has no mark, and check the mark of one that has.

    Parameters
    ----------
    takes_over
        Replace the mark of another store, such as one that was lost.

    Raises
    ------
    RegistryError
        The registry belongs to another store. A registry that this account may not mark is not refused.
    """
    try:
        found = _mark(registry, store_id, takes_over=takes_over)
    except RegistryError as error:
        if error.retryable:
            raise
        log.warning("registry not marked error=%r", error.message)  # this account may only read
        return
    if found != store_id:
        raise RegistryError(
            f"The registry at {registry.tracking_uri} belongs to another Deltadex (store {found}), or is not the one "
            "that this store was filled from",
            hint="Check DELTADEX_TRACKING_URI. If that store is lost, `deltadex rebuild` takes the registry over.",
        )


def _mark(registry: Registry, store_id: str, *, takes_over: bool) -> str:
    """Return the mark of the registry, after setting it where there is none."""
    with registry_errors("reading the mark of the registry"):
        experiment = registry.client.get_experiment(own_experiment(registry))
        found = experiment.tags.get(_STORE_TAG)
        if found is not None and not takes_over:
            return str(found)
        registry.client.set_experiment_tag(experiment.experiment_id, _STORE_TAG, store_id)
        return store_id
