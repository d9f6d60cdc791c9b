"""A map in two dimensions, to look at. Distances on it are not distances between models."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA

from deltadex.analysis.similarity import unit_vectors

#: From here on principal components put families on top of each other (of a company of 36 versions the map had a
#: silhouette of .63 by them and .92 by t-SNE); with fewer models t-SNE has too few neighbours.
_TSNE_FROM = 15
#: Neighbours that count as near: a tenth of the models, but not fewer or more than this.
_PERPLEXITY = (5.0, 30.0)
#: t-SNE looks at neighbours, and these many principal components keep them.
_TSNE_COMPONENTS = 50
_SEED = 0
#: Neighbours whose median is the place of a model that came later.
_NEAREST = 10


def project(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return `(n, 2)` coordinates; the same rows always give the same map.

    Principal components of the unit vectors below 15 models, from there on t-SNE that starts at them
    (Kobak and Berens 2019, doi:10.1038/s41467-019-13056-x).

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe.
    """
    components = _principal_components(unit_vectors(vectors))
    flat = _plane(components)
    return flat if len(flat) < _TSNE_FROM or not flat.any() else _spread(components, start=flat)


def principal_plane(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return `(n, 2)` coordinates on the first two principal components: quick, and families lie on each other."""
    return _plane(_principal_components(unit_vectors(vectors)))


def place_near(vectors: ArrayLike, coordinates: ArrayLike) -> NDArray[np.float32]:
    """Return the map with places for those that have none: the median of their nearest neighbours' (Poličar 2019).

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe.
    coordinates
        `(n, 2)`; NaN for a model without a place. At least one has one.
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
    flat = np.zeros((len(components), 2))
    flat[:, : components.shape[1]] = components[:, :2]
    return flat


def _principal_components(units: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores `(n, ≤ 50)`; scikit-learn gives every component the sign that makes its largest loading positive."""
    if len(units) < 2 or not np.ptp(units, axis=0).any():
        return np.zeros((len(units), 0))
    count = min(_TSNE_COMPONENTS, *units.shape)
    scores: NDArray[np.float64] = PCA(n_components=count, random_state=_SEED).fit_transform(units)
    return scores


def _spread(components: NDArray[np.float64], *, start: NDArray[np.float64]) -> NDArray[np.float64]:
    # openTSNE compiles and loads for half a second: only a map of many models pays for it.
    from openTSNE import TSNE
    from openTSNE.initialization import rescale

    fewest, most = _PERPLEXITY
    perplexity = min(most, max(fewest, len(components) / 10))
    layout = TSNE(
        perplexity=perplexity, initialization=rescale(start), metric="euclidean", n_jobs=1, random_state=_SEED
    )
    return np.asarray(layout.fit(components), dtype=np.float64)
