"""Similarity of adapters by their weights: as stored, and in forms that depend on the product of A and B alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Factors = tuple[NDArray[np.float32], NDArray[np.float32]]
_RANK = 32


def weight_similarities(folders: Sequence[Path]) -> dict[str, NDArray[np.float64]]:
    """Return `(n, n)` cosine similarities of adapters.

    Every adapter has α = 2r, so all are scaled alike.

    - raw: A and B flattened as stored, padded with zeros to one rank;
    - canonical: the same after a singular value decomposition of their product, by QR, with the largest entry of each
      left vector positive;
    - product: B·A, never written out: <B1·A1, B2·A2> is the sum over (B1ᵀ·B2) ∘ (A1·A2ᵀ).
    """
    stored = [load_file(folder / "adapter_model.safetensors") for folder in folders]
    grams = {form: np.zeros((len(stored), len(stored))) for form in ("raw", "canonical", "product")}
    for name in [name for name in stored[0] if name.endswith("lora_A.weight")]:
        factors = [(one[name.replace("lora_A", "lora_B")], one[name]) for one in stored]
        for form, rows in (
            ("raw", [_padded(*one) for one in factors]),
            ("canonical", [canonical(*one) for one in factors]),
        ):
            matrix = np.stack(rows)
            grams[form] += matrix @ matrix.T
        left, right = np.concatenate([one[0] for one in factors], 1), np.concatenate([one[1] for one in factors])
        edges = np.cumsum([0, *(one[1].shape[0] for one in factors)])[:-1]
        cells = (left.T @ left) * (right @ right.T)
        grams["product"] += np.add.reduceat(np.add.reduceat(cells, edges, 0), edges, 1)
    return {form: gram / np.sqrt(np.outer(np.diag(gram), np.diag(gram))) for form, gram in grams.items()}


def _padded(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    missing = _RANK - left.shape[1]
    return np.concatenate([np.pad(left, ((0, 0), (0, missing))).ravel(), np.pad(right, ((0, missing), (0, 0))).ravel()])


def canonical(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a vector that is equal for all `left` `(out, r)` and `right` `(r, in)` with the same product."""
    first, upper = np.linalg.qr(left)
    second, lower = np.linalg.qr(right.T)
    u, strengths, vt = np.linalg.svd(upper @ lower.T)
    roots = np.sqrt(strengths)
    out, into = first @ u * roots, (second @ vt.T) * roots
    signs = np.sign(out[np.abs(out).argmax(axis=0), np.arange(len(strengths))])
    return _padded(out * signs, (into * signs).T)
