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


def project(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return `(n, 2)` coordinates; the same rows always give the same map.

    Principal components of the unit vectors below 15 models, from there on t-SNE that starts at them
    (Kobak and Berens 2019, doi:10.1038/s41467-019-13056-x).

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe.
    """
    units = unit_vectors(vectors)
    components = _principal_components(units)
    flat = np.zeros((len(units), 2))
    flat[:, : components.shape[1]] = components[:, :2]
    return flat if len(units) < _TSNE_FROM or not flat.any() else _spread(components, start=flat)


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
