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
#: Most nearest neighbours that place a later model, and that a map is judged by; at most a third of the models.
_NEAREST = 10
#: Least cosine distance that counts in a weight: float32 knows none between copies.
_ALMOST_ZERO = 1e-6
#: Models of a map whose neighbours are compared.
_JUDGED = 1_000
#: Models move if a new map keeps this share more of their neighbours. Of 147 finetunes of SmolLM2 that arrived one by
#: one, 143 moved no other, and the map kept at most .08 fewer neighbours than a new one (with .03: 240 of 252, .03).
_WORTH_MOVING = 0.1


def project(vectors: ArrayLike, *, start: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return `(n, 2)` coordinates; the same rows always give the same map.

    Below 15 models these are principal components of the unit vectors; from 15 on t-SNE, initialised with them
    (Kobak and Berens 2019, doi:10.1038/s41467-019-13056-x).

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe.
    start
        `(n, 2)` coordinates from which t-SNE starts instead.
    """
    components = _principal_components(unit_vectors(vectors))
    plane = _plane(components)
    if len(plane) < _TSNE_FROM or not plane.any():
        return plane
    return _tsne(components, start=plane if start is None else np.asarray(start, dtype=np.float64))


def extend(vectors: ArrayLike, coordinates: ArrayLike) -> NDArray[np.float64]:
    """Return a map with the models that have no place yet. The others move only if that makes it clearly better.

    Then a new map is made from the old one, and turned, mirrored and scaled to fit it (orthogonal Procrustes).

    Parameters
    ----------
    vectors, coordinates
        See `place_near`.
    """
    is_placed = np.isfinite(np.asarray(coordinates)[:, 0])
    if not is_placed.any():
        return project(vectors)
    units = unit_vectors(vectors).astype(np.float32)
    joined = place_near(units, coordinates).astype(np.float64)
    renewed = _fitted(project(units, start=joined), joined, is_placed)
    gain = _neighbors_kept(units, renewed) - _neighbors_kept(units, joined)
    return renewed if gain > _WORTH_MOVING else joined


def principal_plane(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return `(n, 2)` coordinates on the first two principal components: quick, but families overlap."""
    return _plane(_principal_components(unit_vectors(vectors)))


def place_near(vectors: ArrayLike, coordinates: ArrayLike) -> NDArray[np.float32]:
    """Return the map with models without a place among their nearest neighbours, nearest to the most similar ones.

    Weights are inverse squares of cosine distances (Shepard 1968), so that a copy lies on its original.

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
    nearest = _nearest(similarity, _neighbor_count(similarity.shape[1]))
    weights = np.maximum(1 - np.take_along_axis(similarity, nearest, axis=1), _ALMOST_ZERO) ** -2
    weights /= weights.sum(axis=1, keepdims=True)
    placed[~is_placed] = np.einsum("ij,ijk->ik", weights, placed[is_placed][nearest])
    return placed


def _neighbor_count(models: int) -> int:
    return max(1, min(_NEAREST, models // 3))


def _nearest(closeness: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    return np.argpartition(-closeness, count - 1, axis=1)[:, :count]


def _neighbors_kept(units: NDArray[np.float32], coordinates: NDArray[np.float64]) -> float:
    """Return the mean share of a model's nearest neighbours that are nearest on the map as well."""
    rows = np.unique(np.linspace(0, len(units) - 1, _JUDGED).astype(int))
    count = _neighbor_count(len(units))
    similarity = units[rows] @ units.T
    distance = np.hypot(*(coordinates[rows, None] - coordinates[None]).transpose(2, 0, 1))
    kept = []
    for closeness in (similarity, -distance):
        closeness[np.arange(len(rows)), rows] = -np.inf
        is_near = np.zeros(closeness.shape, dtype=bool)
        np.put_along_axis(is_near, _nearest(closeness, count), True, axis=1)
        kept.append(is_near)
    return float(np.logical_and(*kept).sum() / (len(rows) * count))


def _fitted(
    renewed: NDArray[np.float64], old: NDArray[np.float64], is_placed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return a map turned, mirrored, shifted and scaled so that models with a place come close to it."""
    centre, old_centre = renewed[is_placed].mean(axis=0), old[is_placed].mean(axis=0)
    moved, target = renewed[is_placed] - centre, old[is_placed] - old_centre
    left, _, right = np.linalg.svd(moved.T @ target)
    size, old_size = np.linalg.norm(moved), np.linalg.norm(target)
    scale = old_size / size if size and old_size else 1.0
    return np.asarray((renewed - centre) @ (left @ right) * scale + old_centre)


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
