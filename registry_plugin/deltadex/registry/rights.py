"""A trial of the right that Deltadex's account needs in MLflow, by writing one of its own tags as it is."""

from __future__ import annotations

from itertools import islice

from deltadex.registry.client import Registry

#: Own tag of every version that has come to an end.
_TAG = "deltadex.state"
#: Newest versions among which one with that tag is looked for.
_LOOKED_AT = 200


def try_rights(registry: Registry) -> str:
    """Set Deltadex's own tag of a version to the value that it has, and return a line about it.

    Raises
    ------
    RegistryError
        The right is missing; the hint names it.
    """
    version = next((one for one in islice(registry.newest_first(), _LOOKED_AT) if _TAG in one.tags), None)
    if version is None:
        return "not tried: none of the newest versions has a tag of Deltadex yet"
    registry.set_tag(version.ref, _TAG, version.tags[_TAG])
    return f"this account may write tags, tried at {version.ref.label}"
