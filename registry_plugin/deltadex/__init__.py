"""Deltadex: the delta activations of every model version in an MLflow registry.

The names in `__all__` are the public API and stay as they are within a major version. Everything else in this package
is private: its modules move and change without notice. Values that the API returns keep their documented attributes.

Importing this package is cheap: each name is loaded when it is first used.

Examples
--------
>>> import deltadex
>>> with deltadex.connect() as registry:
...     kinds = {str(row.finding.kind) for row in registry.findings()}
>>> sorted(kinds)
['drift', 'exact_duplicate', ...]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltadex.connection import Connection, connect
    from deltadex.local_embedding import embed
    from deltadex.settings import Settings
    from deltadex.types import Embedding, Recipe

    __version__: str

__all__ = ["Connection", "Embedding", "Recipe", "Settings", "__version__", "connect", "embed"]

_MODULES = {
    "Connection": "deltadex.connection",
    "Embedding": "deltadex.types",
    "Recipe": "deltadex.types",
    "Settings": "deltadex.settings",
    "connect": "deltadex.connection",
    "embed": "deltadex.local_embedding",
}

if not TYPE_CHECKING:  # a type checker that sees `__getattr__` accepts any name

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            value = version("deltadex")
        elif name in _MODULES:
            from importlib import import_module

            value = getattr(import_module(_MODULES[name]), name)
        else:
            raise AttributeError(f"module 'deltadex' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
