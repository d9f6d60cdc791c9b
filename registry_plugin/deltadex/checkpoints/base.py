"""Which base a finetune was made from, and where that base is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath

from deltadex.checkpoints.fit import BASE_TAG
from deltadex.checkpoints.layout import Checkpoint
from deltadex.errors import BaseNotFound

#: Where Hugging Face's cache keeps a model: `…/models--acme--base-7b/snapshots/<commit>`.
_HUB_CACHE = re.compile(r"(^|[/\\])models--(?P<name>[^/\\]+)([/\\]|$)")


def declared_base(checkpoint: Checkpoint, tags: Mapping[str, str]) -> str:
    """Return the name of the base: the version's `deltadex.base` tag, else what its files say.

    Raises
    ------
    BaseNotFound
        Nothing names a base.
    """
    declared = tags.get(BASE_TAG) or checkpoint.declared_base
    if not declared:
        raise BaseNotFound(
            f"{checkpoint.files.where} does not say which base it was finetuned from",
            hint=f"Set the tag {BASE_TAG} on the model version to a folder, a models:/ URI or a known name.",
        )
    return declared


def locate_base(declared: str, bases: Mapping[str, str]) -> str:
    """Return the folder or `models:/` URI at which a declared base is found.

    A path of the trainer's machine that is not here is looked up by the name that it ends with, and one inside a cache
    of the hub by the name of the model on the hub.

    Parameters
    ----------
    bases
        The mapping of the settings; a whole name in it goes before a folder of that name.

    Raises
    ------
    BaseNotFound
        The name is not in the mapping, and neither an absolute path of a folder here nor a `models:/` URI.
    """
    if declared in bases:
        return bases[declared]
    if declared.startswith("models:/") or (Path(declared).is_absolute() and Path(declared).is_dir()):
        return declared
    names = list(_names(declared))
    for name in names:
        if name in bases:
            return bases[name]
    wanted = names[0] if _HUB_CACHE.search(declared) else declared
    example = json.dumps({**bases, wanted: "<folder or models:/name/version>"})
    raise BaseNotFound(
        f"The base {declared} is not on this machine and not in the settings", hint=f"Set DELTADEX_BASES='{example}'."
    )


def _names(declared: str) -> Iterator[str]:
    """Yield the names that a path of another machine stands for, the surest first; none for a name of the hub."""
    cached = _HUB_CACHE.search(declared)
    if cached:
        yield cached["name"].replace("--", "/")
    else:
        path = PureWindowsPath(declared)  # reads the paths of either system
        if path.root and path.name:
            yield path.name
