"""A map in two dimensions, to look at. Distances on it are not distances between models."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA

from deltadex.analysis.similarity import unit_vectors

#: From here on principal components put families on top of each other, and t-SNE has neighbours enough.
_TSNE_FROM = 50
#: t-SNE looks at neighbours, and these many principal components keep them.
_TSNE_COMPONENTS = 50
_SEED = 0


def project(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return `(n, 2)` coordinates; the same rows always give the same map.

    Principal components of the unit vectors below 50 models, from there on t-SNE that starts at them
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

    perplexity = min(30.0, (len(components) - 1) / 3)
    layout = TSNE(
        perplexity=perplexity, initialization=rescale(start), metric="euclidean", n_jobs=1, random_state=_SEED
    )
    return np.asarray(layout.fit(components), dtype=np.float64)
