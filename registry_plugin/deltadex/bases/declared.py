"""Names and locations of declared bases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PureWindowsPath

from deltadex.checkpoints.inspect import Checkpoint
from deltadex.errors import BaseNotFound
from deltadex.registry.sources import is_allowed_folder
from deltadex.setting_groups import SourceSettings
from deltadex.types import BASE_TAG

#: Path of a model in Hugging Face's cache: `…/models--acme--base-7b/snapshots/<commit>`.
_HUB_CACHE = re.compile(r"(^|[/\\])models--(?P<name>[^/\\]+)([/\\]|$)")
#: Scheme of a base that is a version in the registry: `models:/name/version`.
REGISTERED = "models:/"


def declared_base(checkpoint: Checkpoint, tags: Mapping[str, str]) -> str:
    """Return the name of the base: the version's `deltadex.base` tag, else the name in its files.

    Raises
    ------
    BaseNotFound
        Nothing names a base.
    """
    declared = tags.get(BASE_TAG) or checkpoint.declared_base
    if not declared:
        raise BaseNotFound(
            f"{checkpoint.files.where} does not declare the base it was finetuned from",
            hint=f"Set the tag {BASE_TAG} on the model version to a folder, a models:/ URI or a known name.",
        )
    return declared


def locate_base(declared: str, bases: Mapping[str, str], sources: SourceSettings) -> str:
    """Return the folder or `models:/` URI of a declared base.

    A path that does not exist here, such as one of the training machine, is looked up by its last part; a path inside a
    Hugging Face cache by the model's name on the hub.

    Parameters
    ----------
    bases
        The mapping from settings; an exact match takes precedence over a folder of that name.
    sources
        The folders and registered models that a version may name itself. It could name any other place to learn about
        the files there.

    Raises
    ------
    BaseNotFound
        The name is not in the mapping, and is neither an existing allowed folder nor an allowed `models:/` URI.
    """
    if declared not in bases and _is_allowed(declared, sources):
        return declared
    if known := _known_place(declared, bases):
        return known
    names = list(_names(declared))
    wanted = names[0] if _HUB_CACHE.search(declared) else declared
    entry = json.dumps({wanted: "<folder or models:/name/version>"})
    raise BaseNotFound(
        f"The base {declared} is neither in the settings nor a folder or registered model that they allow",
        hint=f"Add {entry} to DELTADEX_BASES, or its place to DELTADEX_SOURCES.",
    )


def place_of(declared: str, bases: Mapping[str, str]) -> str:
    """Return the place of a declared base by the settings' mapping, or itself; nothing is read or checked."""
    return _known_place(declared, bases) or declared


def _known_place(declared: str, bases: Mapping[str, str]) -> str | None:
    return next((bases[name] for name in (declared, *_names(declared)) if name in bases), None)


def _is_allowed(declared: str, sources: SourceSettings) -> bool:
    if declared.startswith(REGISTERED):
        name = declared.removeprefix(REGISTERED).rpartition("/")[0]
        return any(fnmatchcase(name, pattern) for pattern in sources.base_models)
    return is_allowed_folder(Path(declared), sources) and Path(declared).is_dir()


def _names(declared: str) -> Iterator[str]:
    """Yield possible base names for a path of another machine, the most certain first; none for a hub name."""
    cached = _HUB_CACHE.search(declared)
    if cached:
        yield cached["name"].replace("--", "/")
    else:
        path = PureWindowsPath(declared)  # parses Windows and POSIX paths
        if path.root and path.name:
            yield path.name
