"""The licence declared in a model card."""

from __future__ import annotations

from pathlib import PurePosixPath

from deltadex.checkpoints.folder import Artifact


def declared_license(artifact: Artifact, folder: PurePosixPath) -> str | None:
    """Return the `license` of the model card beside the weights or at the top, in lower case; None if undeclared."""
    for place in dict.fromkeys((folder, PurePosixPath())):
        declared = artifact.card(place).get("license")
        if isinstance(declared, str) and declared.strip():
            return declared.strip().lower()
    return None
