"""The optional packages of the extra `evidence`, with a clear error where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deltadex.errors import EvidenceError


@contextmanager
def evidence_extra() -> Iterator[None]:
    """Turn a missing package into an error that names the extra. Import inside.

    Raises
    ------
    EvidenceError
        A package is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise EvidenceError(
            f"Evidence packs need the package {error.name or error}",
            hint="Install it: `pip install deltadex[evidence]`.",
        ) from error
