"""Registration of a built merge in MLflow, with its parents as lineage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from deltadex.app import App
from deltadex.merge.build import BuiltMerge
from deltadex.registry.registration import register_folder
from deltadex.types import BASE_TAG, RegisteredVersion, VersionRow

#: Tags of a merge: its parents as a JSON list of `NAME/VERSION`, the method, and the weights as a JSON list.
PARENTS_TAG, METHOD_TAG, WEIGHTS_TAG = "deltadex.parents", "deltadex.merge_method", "deltadex.merge_weights"


def register_merge(
    app: App, name: str, folder: Path, merge: BuiltMerge, parents: Sequence[VersionRow]
) -> RegisteredVersion:
    """Register a merge as the next version of a model; the watcher then embeds it as any other.

    Raises
    ------
    RegistryError
        MLflow refuses.
    """
    tags = {
        BASE_TAG: merge.base_name,
        PARENTS_TAG: json.dumps([row.label for row in parents]),
        METHOD_TAG: merge.method.value,
        WEIGHTS_TAG: json.dumps([round(one, 6) for one in merge.weights]),
    }
    return register_folder(app.registry, name, folder, tags=tags)
