"""All pairs of vectors above a similarity, for more vectors than fit in memory, in a folder that survives any kill.

Nothing is approximate. Every unit vector u is split into its part in one subspace, with the coordinates c, and the
rest, of length r. By Cauchy and Schwarz cos(u, v) <= c·c' + r r', the scalar product of the codes (c, r) and (c', r'):
what stays below the threshold there is below it, whatever the subspace. One that holds most of the vectors' energy
leaves few candidates, and those are compared in full.
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

#: Far above the rounding of float32 codes (1e-6 was seen): it costs some candidates and loses none.
_SLACK = 1e-5
#: Rows whose candidates are verified together: bounds the memory where everything resembles everything.
_TOGETHER = 64
#: Rows that the subspace is fitted to, per dimension of it.
_SAMPLE = 4


def ignore_progress(_done: int, _of: int) -> None:
    """Take a report and do nothing."""


@dataclass(frozen=True, eq=False)
class PairSearch:
    """The search for every pair of rows whose cosine similarity is at least `threshold`.

    Attributes
    ----------
    vectors
        `(n, d)` float32, finite, of one recipe; may be a memory map. A zero row has similarity 0 to every other one.
    folder
        Keeps what is done; it must belong to these vectors alone.
    code_size
        Dimensions of the subspace.
    block
        Rows and columns compared at a time.
    """

    vectors: FloatArray
    folder: Path
    threshold: float
    code_size: int = 1023
    block: int = 2048

    def run(self, on_progress: OnProgress = ignore_progress) -> None:
        """Do whatever is not done yet. Killed at any point and called again, the result is the same."""
        self._results.mkdir(parents=True, exist_ok=True)
        starts = self._starts()
        done, steps = len(starts), len(starts) * (len(starts) + 3) // 2
        codes = self._codes()
        on_progress(done, steps)
        for number, start in enumerate(starts):
            if not self._result(start).exists():
                save_whole(self._result(start), self._pairs_from(codes, start))
            done += len(starts) - number
            on_progress(done, steps)

    def pairs(self) -> Iterator[Pairs]:
        """Yield arrays of dtype `PAIR`, in row order. Call `run` before."""
        for start in self._starts():
            yield np.load(self._result(start))

    @property
    def _results(self) -> Path:
        return self.folder / f"pairs-{self.threshold!r}-{self.block}"

    def _result(self, start: int) -> Path:
        return self._results / f"{start:09}.npy"

    def _starts(self) -> range:
        return range(0, len(self.vectors), self.block)

    def _codes(self) -> FloatArray:
        """Return `(n, at most code_size + 1)` float32, made once: any two's scalar product bounds their similarity."""
        path = self.folder / f"codes-{self.code_size}.npy"
        if not path.exists() and len(self.vectors):
            unfinished, basis = path.with_suffix(".part"), self._basis()
            size = self.vectors.shape[1] if basis is None else self.code_size
            codes = open_memmap(unfinished, mode="w+", dtype=np.float32, shape=(len(self.vectors), size + 1))
            for start in self._starts():
                codes[start : start + self.block] = _coded(self.vectors[start : start + self.block], basis)
            codes.flush()
            unfinished.rename(path)
        return np.load(path, mmap_mode="r") if len(self.vectors) else np.empty((0, 1), np.float32)

    def _basis(self) -> FloatArray | None:
        """Return `(d, code_size)` orthonormal columns near the principal axes; None where the space is no larger.

        A randomised range finder with one power iteration (Halko, Martinsson and Tropp 2011) over evenly spread rows.
        """
        rows, dimension = self.vectors.shape
        if dimension <= self.code_size:
            return None
        sample = unit_vectors(self.vectors[:: max(1, rows // (_SAMPLE * self.code_size))]).astype(np.float32)
        directions = np.random.default_rng(0).standard_normal((dimension, self.code_size), dtype=np.float32)
        basis: FloatArray = np.linalg.qr(sample.T @ (sample @ directions)).Q
        return basis

    def _pairs_from(self, codes: FloatArray, start: int) -> Pairs:
        """Return the pairs whose first row is in the block that starts there."""
        block = np.array(codes[start : start + self.block])
        found = [np.empty(0, PAIR)]
        for other in range(start, len(codes), self.block):
            bounds = block @ codes[other : other + self.block].T
            rows, columns = np.nonzero(bounds >= self.threshold - _SLACK)
            later = rows + start < columns + other
            found += self._verified(rows[later] + start, columns[later] + other)
        return np.sort(np.concatenate(found), order=["first", "second"])

    def _verified(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Iterator[Pairs]:
        """Compare candidates, sorted by row, in full and in float64."""
        firsts, place = np.unique(rows, return_inverse=True)
        for start in range(0, len(firsts), _TOGETHER):
            these = slice(*np.searchsorted(place, [start, start + _TOGETHER]))
            seconds, column = np.unique(columns[these], return_inverse=True)
            ones = unit_vectors(self.vectors[firsts[start : start + _TOGETHER]])
            similarity = (ones @ unit_vectors(self.vectors[seconds]).T)[place[these] - start, column]
            pairs = np.empty(len(similarity), PAIR)
            pairs["first"], pairs["second"] = rows[these], columns[these]
            pairs["similarity"] = np.clip(similarity.round(DECIMALS), -1, 1)
            yield pairs[pairs["similarity"] >= self.threshold]


def save_whole(path: Path, array: NDArray[Any]) -> None:
    """Save an array so that the file is there whole or not at all, whatever ends this process or machine."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def _coded(vectors: FloatArray, basis: FloatArray | None) -> FloatArray:
    units = unit_vectors(vectors).astype(np.float32)
    inside = units if basis is None else units @ basis
    rest = np.square(units).sum(axis=1) - np.square(inside).sum(axis=1)
    # The difference of two nearly equal numbers may be off by their rounding, and its root by far more.
    return np.column_stack([inside, np.sqrt(np.maximum(rest, 0) + _SLACK)])
