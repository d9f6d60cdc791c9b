"""Synthetic adapters for a company of hundreds of versions: mixtures of trained adapters, with noise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from deltadex.demo.specification import ModelVersion

#: Number of versions per registered model.
VERSIONS_PER_MODEL = 5

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Variation:
    """Parameters of one synthetic adapter.

    Attributes
    ----------
    parents
        Labels of the two trained adapters whose weight updates are mixed.
    share
        Weight of the first parent's update; the second one's is `1 - share`.
    noise
        Standard deviation of the noise added to the matrices B, in units of their own.
    """

    version: ModelVersion
    parents: tuple[str, str]
    share: float
    noise: float
    seed: int


def plan(domains: Mapping[str, str], adapters: Sequence[str], *, count: int, seed: int) -> tuple[Variation, ...]:
    """Return `count` variations, always the same ones for the same arguments.

    Parameters
    ----------
    domains
        Domain of each version by its label.
    adapters
        Labels of the adapters that can be mixed.
    """
    random = np.random.default_rng(seed)
    variations: list[Variation] = []
    while len(variations) < count:
        first, second = (str(label) for label in random.choice(adapters, size=2, replace=False))
        share = random.uniform(0.6, 1.0)
        name = f"synthetic-{domains[first]}-{len(variations) // VERSIONS_PER_MODEL + 1:03}"
        for number in range(1, VERSIONS_PER_MODEL + 1):
            version = ModelVersion(name, "synthetic", domains[first], 0, version=number, synthetic=True)
            varied = float(np.clip(share + random.normal(0, 0.03), 0, 1))
            variations.append(Variation(version, (first, second), varied, 0.1, int(random.integers(2**31))))
    return tuple(variations[:count])


def write(variation: Variation, adapters: Mapping[str, Path], folder: Path) -> None:
    """Save a variation as a LoRA adapter of twice the rank: the weighted sum of its parents' updates, plus noise.

    Parameters
    ----------
    adapters
        Folder of each parent by its label; all have the same rank and scaling.
    """
    first, second = (load_file(adapters[parent] / _WEIGHTS) for parent in variation.parents)
    random = np.random.default_rng(variation.seed)
    tensors = {}
    for name, ours in first.items():
        if ".lora_A." in name:
            mixed = np.concatenate([ours, second[name]])
        else:
            mixed = np.concatenate([variation.share * ours, (1 - variation.share) * second[name]], axis=1)
            mixed = mixed + variation.noise * mixed.std() * random.standard_normal(mixed.shape)
        tensors[name] = mixed.astype(np.float16)
    config = json.loads((adapters[variation.parents[0]] / _CONFIG).read_text(encoding="utf-8"))
    config |= {"r": 2 * config["r"], "lora_alpha": 2 * config["lora_alpha"]}  # the same scaling, alpha / r
    folder.mkdir()
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / _CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
