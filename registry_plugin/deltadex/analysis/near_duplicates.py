"""Which vectors repeat which, for more vectors than fit in memory, in a folder that survives any kill.

Every vector is compared with every earlier one, in float32 and by blocks, which is where BLAS is fastest; whatever that
brings near a decision is compared again in float64. So nothing is approximate. A bound from fewer dimensions would
save multiplications, but where families resemble each other it rules so little out that verifying takes longer.
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

from deltadex.analysis.similarity import unit_vectors
from deltadex.domain import FloatArray

#: Two rows, `first < second`, and their cosine similarity, rounded to `DECIMALS`.
PAIR = np.dtype([("first", np.int64), ("second", np.int64), ("similarity", np.float64)])
#: More than float32 vectors carry, and less than float64 sums lose: equal vectors reach a threshold of exactly 1.
DECIMALS = 9
Pairs = NDArray[Any]
#: Called with the steps done and all of them.
OnProgress = Callable[[int, int], None]

#: Far above the rounding of float32 products (1e-6 was seen).
_SLACK = np.float32(1e-5)
#: Rows whose candidates are verified together: bounds the memory where everything resembles everything.
_TOGETHER = 64
_NEVER = -2.0


def ignore_progress(_done: int, _of: int) -> None:
    """Take a report and do nothing."""


@dataclass(frozen=True, eq=False)
class PairSearch:
    """The search for every pair of rows that are alike, and for the closest earlier row of another model.

    Attributes
    ----------
    vectors
        `(n, d)` float32, finite, of one recipe, the oldest first; may be a memory map. A zero row has similarity 0 to
        every other one.
    models
        `(n,)`: which registered model each is a version of.
    folder
        Keeps what is done; it must belong to these vectors alone.
    near, same_task
        Cosine similarities from which on pairs, and closest earlier rows, are told.
    block
        Rows compared with as many others at a time.
    """

    vectors: FloatArray
    models: NDArray[np.int64]
    folder: Path
    near: float
    same_task: float
    block: int = 2048

    def run(self, on_progress: OnProgress = ignore_progress) -> None:
        """Do whatever is not done yet. Killed at any point and called again, the result is the same."""
        self._results.mkdir(parents=True, exist_ok=True)
        starts = self._starts()
        done, steps = len(starts), len(starts) * (len(starts) + 3) // 2
        units = self._units()
        on_progress(done, steps)
        for number, start in enumerate(starts, start=1):
            if not self._result("closest", start).exists():
                pairs, closest = self._compared(units, start)
                save_whole(self._result("pairs", start), pairs)
                save_whole(self._result("closest", start), closest)
            done += number
            on_progress(done, steps)

    def pairs(self) -> Iterator[Pairs]:
        """Yield arrays of dtype `PAIR`: all that are near, by their second rows. Call `run` before."""
        for start in self._starts():
            yield np.load(self._result("pairs", start))

    def closest(self) -> Iterator[Pairs]:
        """Yield arrays of dtype `PAIR`: of each second row, in order, the closest earlier one of another model.

        Of equally close ones the latest; those that are not for the same task are left out. Call `run` before.
        """
        for start in self._starts():
            yield np.load(self._result("closest", start))

    @property
    def _results(self) -> Path:
        return self.folder / f"alike-{self.near!r}-{self.same_task!r}-{self.block}"

    def _result(self, what: str, start: int) -> Path:
        return self._results / f"{what}-{start:09}.npy"

    def _starts(self) -> range:
        return range(0, len(self.vectors), self.block)

    def _units(self) -> FloatArray:
        """Return the vectors brought to length 1, `(n, d)` float32, made once."""
        path = self.folder / "units.npy"
        if not path.exists() and len(self.vectors):
            unfinished = path.with_suffix(".part")
            units = open_memmap(unfinished, mode="w+", dtype=np.float32, shape=self.vectors.shape)
            for start in self._starts():
                units[start : start + self.block] = unit_vectors(self.vectors[start : start + self.block])
            units.flush()
            unfinished.rename(path)
        return np.load(path, mmap_mode="r") if len(self.vectors) else np.empty((0, 0), np.float32)

    def _compared(self, units: FloatArray, start: int) -> tuple[Pairs, Pairs]:
        """Return the pairs whose second row is in the block that starts there, and the closest to each of its rows."""
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
        # What was the closest until a closer one came is compared no further.
        candidates = candidates[candidates["similarity"] >= best[candidates["second"] - start] - _SLACK]
        pairs, closest = self._verified(np.concatenate(near)), self._verified(candidates)
        return pairs[pairs["similarity"] >= self.near], _last_of_each(closest[closest["similarity"] >= self.same_task])

    def _verified(self, candidates: Pairs) -> Pairs:
        """Return candidates with their similarity by float64."""
        found = np.sort(candidates, order=["second", "first"])
        seconds, place = np.unique(found["second"], return_inverse=True)
        for begun in range(0, len(seconds), _TOGETHER):
            these = slice(*np.searchsorted(place, [begun, begun + _TOGETHER]))
            firsts, column = np.unique(found["first"][these], return_inverse=True)
            ones = unit_vectors(self.vectors[seconds[begun : begun + _TOGETHER]])
            similarity = (ones @ unit_vectors(self.vectors[firsts]).T)[place[these] - begun, column]
            found["similarity"][these] = np.clip(similarity.round(DECIMALS), -1, 1)
        return found


def _at_least(
    limit: NDArray[np.float32] | np.float32, similarity: FloatArray, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> Pairs:
    """Return the places of a block that reach a limit, one for all or one for each row."""
    row, column = np.nonzero(similarity >= limit)
    pairs = np.empty(len(row), PAIR)
    pairs["first"], pairs["second"], pairs["similarity"] = columns[column], rows[row], similarity[row, column]
    return pairs


def _last_of_each(pairs: Pairs) -> Pairs:
    """Return, of each second row, the most similar pair, and of equally similar ones the latest."""
    ordered = np.sort(pairs, order=["second", "similarity", "first"])
    _, from_the_end = np.unique(ordered["second"][::-1], return_index=True)
    chosen: Pairs = ordered[len(ordered) - 1 - from_the_end]
    return chosen


def save_whole(path: Path, array: NDArray[Any]) -> None:
    """Save an array so that the file is there whole or not at all, whatever ends this process or machine."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
