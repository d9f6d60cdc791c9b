"""Exact search for all similar pairs of more vectors than fit in memory; can be resumed after a kill.

Every vector is compared with every earlier one in float32, in blocks, where BLAS is fastest. Pairs close to a threshold
are compared again in float64, so the result is exact. A bound from fewer dimensions would save multiplications, but
where families of models are similar it excludes too few pairs to pay for their verification.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from deltadex.types import FloatArray
from deltadex.vectors import unit_vectors

#: Two row numbers, `first < second`, and their cosine similarity, rounded to `DECIMALS`.
PAIR = np.dtype([("first", np.int64), ("second", np.int64), ("similarity", np.float64)])
#: A version's id, the time at which its embedding was stored (microseconds; it identifies the embedding), numbers for
#: its registered model and its weights, and the norm of its embedding.
MEMBER = np.dtype(
    [("id", np.int64), ("stored_us", np.int64), ("model", np.int64), ("weights", np.int64), ("norm", np.float64)]
)
#: More digits than float32 vectors have, and fewer than float64 sums keep: equal vectors reach a threshold of 1.
DECIMALS = 9
Pairs = NDArray[Any]
Members = NDArray[Any]
#: Called with the number of finished steps and of all steps.
OnProgress = Callable[[int, int], None]

#: Well above the rounding error of float32 products (measured: 1e-6).
_SLACK = np.float32(1e-5)
#: Number of rows whose candidates are verified together; limits memory where most pairs are similar.
_TOGETHER = 64
_NEVER = -2.0


def ignore_progress(_done: int, _total: int) -> None:
    """Do nothing."""


@dataclass(frozen=True, eq=False)
class PairSearch:
    """Search for all similar pairs of rows, and for each row's closest earlier row of another model.

    Attributes
    ----------
    vectors
        `(n, d)` float32, finite, of one recipe, the oldest first; may be a memory map. A zero row has similarity 0 to
        every other row.
    models
        `(n,)` number of each row's registered model.
    folder
        Folder of finished blocks; used for these vectors only.
    near, same_task
        Minimum cosine similarities of pairs, and of closest earlier rows; infinity finds none.
    block
        Number of rows in a block.
    """

    vectors: FloatArray
    models: NDArray[np.int64]
    folder: Path
    near: float
    same_task: float
    block: int = 2048

    def run(self, on_progress: OnProgress = ignore_progress) -> None:
        """Compare all blocks that are not finished. Can be killed at any point and called again."""
        self._results.mkdir(parents=True, exist_ok=True)
        starts = self._starts()
        done, steps = len(starts), len(starts) * (len(starts) + 3) // 2
        units = self._units()
        on_progress(done, steps)
        for number, start in enumerate(starts, start=1):
            if not self._result("closest", start).exists():
                pairs, closest = self._compare(units, start)
                save_whole(self._result("pairs", start), pairs)
                save_whole(self._result("closest", start), closest)
            done += number
            on_progress(done, steps)

    def pairs(self) -> Iterator[Pairs]:
        """Yield arrays of dtype `PAIR` with all similar pairs, by their second rows. Call `run` first."""
        for start in self._starts():
            yield np.load(self._result("pairs", start))

    def closest(self) -> Iterator[Pairs]:
        """Yield arrays of dtype `PAIR` with the closest earlier row of another model for each second row, in order.

        Ties go to the latest row; rows below the `same_task` similarity are left out. Call `run` first.
        """
        for start in self._starts():
            yield np.load(self._result("closest", start))

    @property
    def _results(self) -> Path:
        return self.folder / f"alike-{self.near!r}-{self.same_task!r}-{self.block}"

    def _result(self, name: str, start: int) -> Path:
        return self._results / f"{name}-{start:09}.npy"

    def _starts(self) -> range:
        return range(0, len(self.vectors), self.block)

    def _units(self) -> FloatArray:
        """Return the `(n, d)` float32 unit vectors as a memory map; the file is written once."""
        path = self.folder / "units.npy"
        if not path.exists() and len(self.vectors):
            unfinished = path.with_suffix(".part")
            units = open_memmap(unfinished, mode="w+", dtype=np.float32, shape=self.vectors.shape)
            for start in self._starts():
                units[start : start + self.block] = unit_vectors(self.vectors[start : start + self.block])
            units.flush()
            unfinished.rename(path)
        return np.load(path, mmap_mode="r") if len(self.vectors) else np.empty((0, 0), np.float32)

    def _compare(self, units: FloatArray, start: int) -> tuple[Pairs, Pairs]:
        """Return the pairs whose second row is in the block at `start`, and the closest row for each of its rows."""
        block, models = np.array(units[start : start + self.block]), self.models[start : start + self.block, None]
        rows = np.arange(start, start + len(block))
        best = np.full(len(block), self.same_task, np.float32)
        near, close = [np.empty(0, PAIR)], [np.empty(0, PAIR)]
        for other in range(0, start + 1, self.block):
            columns = np.arange(other, min(other + self.block, start + len(block)))
            similarity = block @ units[columns[0] : columns[-1] + 1].T
            if other == start:
                similarity[np.triu_indices(len(block))] = _NEVER
            near.append(_at_least(np.float32(self.near) - _SLACK, similarity, rows, columns))
            similarity[models == self.models[columns]] = _NEVER
            best = np.maximum(best, similarity.max(axis=1))
            close.append(_at_least(best[:, None] - _SLACK, similarity, rows, columns))
        candidates = np.concatenate(close)
        # Drop candidates of earlier blocks that a later block has beaten.
        candidates = candidates[candidates["similarity"] >= best[candidates["second"] - start] - _SLACK]
        pairs, closest = self._verify(np.concatenate(near)), self._verify(candidates)
        return pairs[pairs["similarity"] >= self.near], _last_of_each(closest[closest["similarity"] >= self.same_task])

    def _verify(self, candidates: Pairs) -> Pairs:
        """Return the candidates with similarities computed in float64."""
        found = np.sort(candidates, order=["second", "first"])
        seconds, place = np.unique(found["second"], return_inverse=True)
        for start in range(0, len(seconds), _TOGETHER):
            batch = slice(*np.searchsorted(place, [start, start + _TOGETHER]))
            firsts, column = np.unique(found["first"][batch], return_inverse=True)
            units = unit_vectors(self.vectors[seconds[start : start + _TOGETHER]])
            similarity = (units @ unit_vectors(self.vectors[firsts]).T)[place[batch] - start, column]
            found["similarity"][batch] = np.clip(similarity.round(DECIMALS), -1, 1)
        return found


def _at_least(
    limit: NDArray[np.float32] | np.float32, similarity: FloatArray, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> Pairs:
    """Return the pairs of a block that reach a limit, which is one number or `(n_rows, 1)`."""
    row, column = np.nonzero(similarity >= limit)
    pairs = np.empty(len(row), PAIR)
    pairs["first"], pairs["second"], pairs["similarity"] = columns[column], rows[row], similarity[row, column]
    return pairs


def _last_of_each(pairs: Pairs) -> Pairs:
    """Return the most similar pair of each second row; ties go to the latest pair."""
    ordered = np.sort(pairs, order=["second", "similarity", "first"])
    _, from_the_end = np.unique(ordered["second"][::-1], return_index=True)
    chosen: Pairs = ordered[len(ordered) - 1 - from_the_end]
    return chosen


def save_whole(path: Path, array: NDArray[Any]) -> None:
    """Save an array atomically, also if the process is killed or the machine fails."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
