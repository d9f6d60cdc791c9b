"""Which cluster of the previous run a new one continues, so that ids and given names stay with what they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def continued(previous: Mapping[int, int], found: Mapping[int, int]) -> dict[int, int]:
    """Match clusters by the versions that they share, most first; each continues one at most.

    Only versions that are in a cluster in both runs count: arrivals and departures decide nothing. Two clusters match
    where they share at least half of those that either one has, so that a stray member carries no name away.

    Parameters
    ----------
    previous, found
        Cluster by version id, in the previous run and in the new one.

    Returns
    -------
    dict
        Previous cluster by new one; a new cluster that continues none is missing.
    """
    shared = Counter((found[version], previous[version]) for version in found.keys() & previous.keys())
    of_found, of_previous = Counter[int](), Counter[int]()
    for (new, old), count in shared.items():
        of_found[new] += count
        of_previous[old] += count
    matches: dict[int, int] = {}
    # Of equal overlaps the older cluster goes first: the order of versions must not decide.
    for (new, old), count in sorted(shared.items(), key=lambda pair: (-pair[1], pair[0][1], pair[0][0])):
        fits = 2 * count >= min(of_found[new], of_previous[old])
        if fits and new not in matches and old not in matches.values():
            matches[new] = old
    return matches
