"""Tags on model versions, for people who use the MLflow UI. They are never read back as state."""

from __future__ import annotations

from collections.abc import Mapping

from deltadex.registry.client import Registry
from deltadex.registry.connection import registry_errors
from deltadex.types import Embedding, RegisteredVersion, State

#: Remark about a version, like a comment of a colleague.
NOTE_TAG = "deltadex.note"


def tag_embedded(
    registry: Registry,
    version: RegisteredVersion,
    embedding: Embedding,
    *,
    artifact_uri: str,
    link: str | None = None,
) -> None:
    """Tag an embedded version, with a link to its page if given; the reason of an earlier outcome is removed.

    Few tags, because MLflow takes one per request: the recipe is part of the artifact's path.
    """
    tags = {
        "deltadex.state": State.EMBEDDED.value,
        "deltadex.strength": f"{embedding.strength:.4f}",
        "deltadex.artifact": artifact_uri,
        **({"deltadex.dashboard": link} if link else {}),
    }
    _set_tags(registry, version, tags)
    if "deltadex.reason" in version.tags:
        with registry_errors(f"tagging {version.ref.label}"):
            registry.client.delete_model_version_tag(version.ref.name, str(version.ref.version), "deltadex.reason")


def tag_not_embedded(registry: Registry, version: RegisteredVersion, state: State, *, reason: str) -> None:
    """Tag a version that was not embedded with the reason."""
    _set_tags(registry, version, {"deltadex.state": state.value, "deltadex.reason": reason[:1000]})


def tag_reviews(registry: Registry, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
    """Tag a version with the decisions about its findings."""
    _set_tags(registry, version, tags)


def tag_note(registry: Registry, version: RegisteredVersion, note: str) -> None:
    """Tag a version with a remark for its owner, or remove the remark if it is empty."""
    if note:
        _set_tags(registry, version, {NOTE_TAG: note})
        return
    with registry_errors(f"tagging {version.ref.label}"):
        registry.client.delete_model_version_tag(version.ref.name, str(version.ref.version), NOTE_TAG)


def tag_model(registry: Registry, name: str, tags: Mapping[str, str | None]) -> None:
    """Set tags of a registered model; None removes one, and is no error if it is not there."""
    for key, value in tags.items():
        with registry_errors(f"tagging {name}"):
            if value is not None:
                registry.client.set_registered_model_tag(name, key, value)
            elif key in registry.client.get_registered_model(name).tags:
                registry.client.delete_registered_model_tag(name, key)


def _set_tags(registry: Registry, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
    # Setting a tag takes 70 ms: set only those that differ.
    for key, value in tags.items():
        if version.tags.get(key) != value:
            registry.set_tag(version.ref, key, value)
