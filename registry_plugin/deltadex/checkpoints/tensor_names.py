"""Mapping of tensor names between the classes that a model may be saved from (with or without a head, multimodal)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

#: Prefixes of the language model, depending on the class that a model was saved from.
_WRAPPERS = ("base_model", "model", "transformer", "language_model")
_PREFIXES_TRIED = 8


def bare_name(name: str) -> str:
    """Return a tensor's name without the prefixes of wrapping models and of adapters."""
    parts = [part for part in name.split(".") if part != "base_layer"]
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        parts.pop(0)
    return ".".join(parts)


def is_in_layer(name: str) -> bool:
    """Return True if a tensor or module belongs to a numbered layer."""
    return any(part.isdigit() for part in name.split("."))


def by_common_name(ours: Iterable[str], theirs: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return common name → stored name for each of two models; tensors of the same role share a common name.

    A prefix that only one model's class adds (`bert.`) is removed.
    """
    our_names, their_names = ({bare_name(name): name for name in names} for names in (ours, theirs))
    return _without_class_prefix(our_names, their_names), _without_class_prefix(their_names, our_names)


def _without_class_prefix(names: dict[str, str], others: Mapping[str, str]) -> dict[str, str]:
    counts = Counter(name.partition(".")[0] for name in names)
    for first in {name.partition(".")[0] for name in others}:
        counts.pop(first, None)
    # A class adds one prefix to many tensors; a file with thousands of prefixes is no reason for as many comparisons.
    firsts = [first for first, _ in counts.most_common(_PREFIXES_TRIED)]
    stripped = [{name.removeprefix(f"{first}."): full for name, full in names.items()} for first in firsts]
    return max([names, *stripped], key=lambda candidate: len(candidate.keys() & others.keys()))
