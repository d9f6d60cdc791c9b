"""Candidate recipes: functions from readings to one vector per finetune."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from deltadex.vectors import unit_vectors

#: Readings of all finetunes by name, each `(n, …)`.
AllReadings = Mapping[str, NDArray[np.float32]]
Recipe = Callable[[AllReadings], NDArray[np.float64]]

PUBLISHED = "published"
#: What the product calls `content`.
PRODUCTS = "content in the instruction, mean over tokens"


def _joined(*names: str) -> Recipe:
    """Read several parts side by side, each of length one, so that all of them count."""
    return lambda all_readings: np.concatenate([unit_vectors(_part(all_readings, name)) for name in names], axis=1)


def _part(all_readings: AllReadings, name: str) -> NDArray[np.float64]:
    part = all_readings[name].astype(float)
    return part.mean(1) if part.ndim > 2 else part


def _blocks(all_readings: AllReadings) -> NDArray[np.float64]:
    probes = all_readings["probes"]
    return np.concatenate([unit_vectors(probes[:, number]) for number in range(probes.shape[1])], axis=1)


def _layer(number: int) -> Recipe:
    return lambda all_readings: all_readings["layers"][:, number].astype(float)


#: None of them learns anything from other models.
RECIPES: Mapping[str, Recipe] = {
    PUBLISHED: lambda all_readings: _part(all_readings, "probes"),
    "a block per probe": _blocks,
    "mean over tokens": _joined("probes_mean"),
    "last token and mean": _joined("probes", "probes_mean"),
    "after layer 12": _layer(0),
    "after layer 20": _layer(1),
    "after layer 26": _layer(2),
    "content": _joined("content"),
    "content, mean over tokens": _joined("content_mean"),
    "content, last token and mean": _joined("content", "content_mean"),
    "chat": _joined("chat"),
    "chat, mean over tokens": _joined("chat_mean"),
    "content in the instruction": _joined("wrapped"),
    PRODUCTS: _joined("wrapped_mean"),
    "content bare and in the instruction": _joined("content", "wrapped"),
    "published and content": _joined("probes", "content"),
    "published, content, chat": _joined("probes", "content", "chat"),
}
