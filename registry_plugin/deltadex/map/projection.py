"""Projection of embeddings to two dimensions, for display. Distances on the map are not distances between models."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltadex.vectors import unit_vectors

#: With more models principal components put families on top of each other (for 36 versions of the demo company the map
#: had a silhouette of .63 with them and .92 with t-SNE); with fewer models t-SNE has too few neighbours.
_TSNE_FROM = 15
#: Bounds of the perplexity, which is a tenth of the number of models.
_PERPLEXITY = (5.0, 30.0)
#: This many principal components preserve the neighbours that t-SNE uses.
_TSNE_COMPONENTS = 50
_SEED = 0
#: A later model is placed at the median of this many nearest neighbours.
_NEAREST = 10


def project(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return `(n, 2)` coordinates; the same rows always give the same map.

    Below 15 models these are principal components of the unit vectors; from 15 on t-SNE, initialised with them
    (Kobak and Berens 2019, doi:10.1038/s41467-019-13056-x).

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe.
    """
    components = _principal_components(unit_vectors(vectors))
    plane = _plane(components)
    return plane if len(plane) < _TSNE_FROM or not plane.any() else _tsne(components, start=plane)


def principal_plane(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return `(n, 2)` coordinates on the first two principal components: quick, but families overlap."""
    return _plane(_principal_components(unit_vectors(vectors)))


def place_near(vectors: ArrayLike, coordinates: ArrayLike) -> NDArray[np.float32]:
    """Return the map with models without a place at the median of their nearest neighbours (Poličar 2019).

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe.
    coordinates
        `(n, 2)`; NaN for a model without a place. At least one model has a place.
    """
    placed = np.array(coordinates, dtype=np.float32)
    is_placed = np.isfinite(placed[:, 0])
    units = unit_vectors(vectors).astype(np.float32)
    similarity = units[~is_placed] @ units[is_placed].T
    count = min(_NEAREST, similarity.shape[1])
    nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    placed[~is_placed] = np.median(placed[is_placed][nearest], axis=1)
    return placed


def _plane(components: NDArray[np.float64]) -> NDArray[np.float64]:
    plane = np.zeros((len(components), 2))
    plane[:, : components.shape[1]] = components[:, :2]
    return plane


def _principal_components(units: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores `(n, ≤ 50)`; scikit-learn fixes each component's sign so that its largest loading is positive."""
    if len(units) < 2 or not np.ptp(units, axis=0).any():
        return np.zeros((len(units), 0))
    count = min(_TSNE_COMPONENTS, *units.shape)
    from sklearn.decomposition import PCA  # large: the watcher, which only asks what is due, does without it

    scores: NDArray[np.float64] = PCA(n_components=count, random_state=_SEED).fit_transform(units)
    return scores


def _tsne(components: NDArray[np.float64], *, start: NDArray[np.float64]) -> NDArray[np.float64]:
    # Importing openTSNE takes half a second, which small maps should not pay for.
    from openTSNE import TSNE
    from openTSNE.initialization import rescale

    fewest, most = _PERPLEXITY
    perplexity = min(most, max(fewest, len(components) / 10))
    layout = TSNE(
        perplexity=perplexity, initialization=rescale(start), metric="euclidean", n_jobs=1, random_state=_SEED
    )
    return np.asarray(layout.fit(components), dtype=np.float64)
