"""What a model's card says about its licence."""

from __future__ import annotations

from pathlib import PurePosixPath

from deltadex.checkpoints.artifact import Artifact
from deltadex.checkpoints.layout import Checkpoint


def declared_license(checkpoint: Checkpoint) -> str | None:
    """Return the `license` of the model card beside the weights or at the top, in lower case; None where none says."""
    artifact = Artifact(checkpoint.files)
    for folder in dict.fromkeys((checkpoint.root, PurePosixPath())):
        said = artifact.card(folder).get("license")
        if isinstance(said, str) and said.strip():
            return said.strip().lower()
    return None
