"""All pairs above a similarity equal those of brute force, even after interruptions."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.duplicates.all_pairs import DECIMALS, PairSearch
from deltadex.vectors import cosine_similarity
from tests.synthetic import families, vectors

Found = dict[tuple[int, int], float]


def search(rows: np.ndarray, threshold: float, folder: Path, *, block: int = 2048) -> PairSearch:
    found = PairSearch(rows, models(rows), folder, threshold, threshold - 0.1, block)
    found.run()
    return found


def models(rows: np.ndarray) -> np.ndarray:
    return np.arange(len(rows)) % 5


def as_dict(found: PairSearch) -> Found:
    return {(int(first), int(second)): float(value) for pairs in found.pairs() for first, second, value in pairs}


def brute_force(rows: np.ndarray, threshold: float) -> Found:
    similarity = cosine_similarity(rows).round(DECIMALS)
    pairs = [(first, second) for first in range(len(rows)) for second in range(first + 1, len(rows))]
    return {pair: float(similarity[pair]) for pair in pairs if similarity[pair] >= threshold}


@st.composite
def questions(draw: st.DrawFn) -> tuple[np.ndarray, float]:
    """Vectors with ties, zeros and equal rows, some scaled; often with a threshold that a pair meets exactly."""
    rows = draw(vectors(max_rows=12, dimension=6))
    scales = draw(st.lists(st.sampled_from([1.0, 3.0, 1e-30, 1e30]), min_size=len(rows), max_size=len(rows)))
    rows = (rows * np.array(scales, dtype=np.float64).reshape(-1, 1)).astype(np.float32)
    edges = np.unique(cosine_similarity(rows).round(DECIMALS)).tolist()
    return rows, draw(st.sampled_from([*edges, -1.0, 0.0, 0.5, 0.95, 1.0]))


def closest(rows: np.ndarray, threshold: float) -> Found:
    similarity, of = cosine_similarity(rows).round(DECIMALS), models(rows)
    best = {}
    for second in range(len(rows)):
        others = [first for first in range(second) if of[first] != of[second]]
        first = max(others, key=lambda first: (similarity[first, second], first), default=None)
        if first is not None and similarity[first, second] >= threshold:
            best[first, second] = float(similarity[first, second])
    return best


@given(questions(), st.sampled_from([1, 3, 5, 100]))
def test_the_pairs_are_those_of_brute_force(question: tuple[np.ndarray, float], block: int) -> None:
    rows, threshold = question
    with tempfile.TemporaryDirectory() as folder:
        found = search(rows, threshold, Path(folder), block=block)
        assert as_dict(found) == pytest.approx(brute_force(rows, threshold), abs=2 * 10**-DECIMALS)
        told = {(int(first), int(second)): float(value) for pairs in found.closest() for first, second, value in pairs}
    assert told == pytest.approx(closest(rows, threshold - 0.1), abs=2 * 10**-DECIMALS)


@pytest.mark.parametrize("spread", [0.1, 0.35, 1.0])
def test_no_pair_is_lost_near_the_threshold(tmp_path: Path, spread: float) -> None:
    rows = families([150, 50, 1, 300], dimension=96, spread=spread)
    threshold = float(np.quantile(cosine_similarity(rows), 0.9).round(6))
    found = search(rows, threshold, tmp_path, block=70)
    assert as_dict(found).keys() == brute_force(rows, threshold).keys() != set()


def test_pairs_come_by_their_second_rows_and_progress_ends_at_all_steps(tmp_path: Path) -> None:
    rows, steps = families([40, 40], dimension=8, spread=0.5), []
    found = PairSearch(rows, models(rows), tmp_path, 0.9, 0.8, block=16)
    found.run(lambda done, of: steps.append((done, of)))
    assert [*as_dict(found)] == sorted(as_dict(found), key=lambda pair: pair[::-1])
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]


def test_a_search_that_is_killed_again_and_again_finds_the_same(tmp_path: Path) -> None:
    rows = families([60] * 20, dimension=64, spread=0.5)
    np.save(tmp_path / "vectors.npy", rows)
    once, killed = tmp_path / "once", tmp_path / "killed"
    kept: dict[Path, int] = {}
    for wanted in (0, 5, 20):
        process = subprocess.Popen([sys.executable, "-c", _SLOW_SEARCH, str(tmp_path / "vectors.npy"), str(killed)])
        while len([*killed.glob("alike-*/*.npy")]) < wanted or not killed.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        # The block in which the kill came may have one of its two files: it is compared again.
        assert sum(path.stat().st_mtime_ns != written for path, written in kept.items()) <= 1
        kept = {path: path.stat().st_mtime_ns for path in killed.glob("alike-*/*.npy")}
    assert 20 <= len(kept) < 60
    assert as_dict(search(rows, 0.8, killed, block=20)) == as_dict(search(rows, 0.8, once, block=20)) != {}


_SLOW_SEARCH = """
import sys, time
from pathlib import Path
import numpy as np
from deltadex.duplicates.all_pairs import PairSearch
vectors = np.load(sys.argv[1], mmap_mode="r")
search = PairSearch(vectors, np.arange(len(vectors)) % 5, Path(sys.argv[2]), 0.8, 0.8 - 0.1, block=20)
search.run(lambda done, of: time.sleep(0.05))
"""
