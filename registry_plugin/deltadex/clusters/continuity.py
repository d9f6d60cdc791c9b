"""Continuation of clusters from run to run, so that ids and given names stay with the versions they describe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def continued(previous: Mapping[int, int], found: Mapping[int, int]) -> dict[int, int]:
    """Match new clusters to previous ones by shared versions, largest overlap first, one to one.

    Only versions that are in a cluster in both runs count; arrivals and departures do not. Two clusters match if they
    share at least half of the smaller one's versions, so that a single stray member does not carry a name away.

    Parameters
    ----------
    previous, found
        Cluster by version id, in the previous run and in the new one.

    Returns
    -------
    dict
        Previous cluster by new cluster, for the new clusters that continue one.
    """
    shared = Counter((found[version], previous[version]) for version in found.keys() & previous.keys())
    of_found, of_previous = Counter[int](), Counter[int]()
    for (new, old), count in shared.items():
        of_found[new] += count
        of_previous[old] += count
    matches: dict[int, int] = {}
    # Ties go to the older cluster, so that the order of versions does not matter.
    for (new, old), count in sorted(shared.items(), key=lambda pair: (-pair[1], pair[0][1], pair[0][0])):
        fits = 2 * count >= min(of_found[new], of_previous[old])
        if fits and new not in matches and old not in matches.values():
            matches[new] = old
    return matches
