"""Names of tensors across the classes a model may be saved from: with a head, without, inside a multimodal model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: What wraps the language model, depending on the class a model was saved from.
_WRAPPERS = ("base_model", "model", "transformer", "language_model")


def bare(name: str) -> str:
    """Return a tensor's name without what wraps the language model and what an adapter wraps around a module."""
    parts = [part for part in name.split(".") if part != "base_layer"]
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        parts.pop(0)
    return ".".join(parts)


def in_common_terms(ours: Iterable[str], theirs: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return, of two models, bare name → stored name, so that tensors of the same role have the same bare name.

    Where one model was saved from a class that puts a name of its own in front (`bert.`) and the other was not, that
    is taken off.
    """
    one, other = ({bare(name): name for name in names} for names in (ours, theirs))
    return _without_class(one, other), _without_class(other, one)


def _without_class(names: dict[str, str], others: Mapping[str, str]) -> dict[str, str]:
    firsts = {name.partition(".")[0] for name in names} - {name.partition(".")[0] for name in others}
    stripped = [{name.removeprefix(f"{first}."): full for name, full in names.items()} for first in sorted(firsts)]
    return max([names, *stripped], key=lambda candidate: len(candidate.keys() & others.keys()))
