"""Declared domains beside measured clusters. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import altair as alt

from deltadex_dashboard.charts.colors import FAINT
from deltadex_dashboard.charts.overview import heat_map, layered

#: Most rows and most columns: the largest domains and clusters.
MOST = 20
#: Dark text can be read on it.
_MANY, _TEXT = "#8fb0f0", "#1b2733"


def crosstab_chart(declared: Sequence[str], measured: Sequence[str]) -> alt.LayerChart:
    """Return a heat map with the number of versions of each declared domain in each cluster, the largest first.

    Parameters
    ----------
    declared, measured
        Declared domain and cluster of each version, by name.
    """
    domains, clusters = (
        [name for name, _ in Counter(sorted(names)).most_common(MOST)] for names in (declared, measured)
    )
    counts = Counter(zip(declared, measured, strict=True))
    cells = [
        {"domain": domain, "cluster": cluster, "versions": count}
        for (domain, cluster), count in counts.items()
        if domain in domains and cluster in clusters
    ]
    base = heat_map(cells, x=("cluster", clusters), y=("domain", domains))
    color = alt.Color("versions:Q", scale=alt.Scale(range=[FAINT, _MANY]), legend=None)
    tooltip = [alt.Tooltip("domain:N", title="declared domain"), alt.Tooltip("cluster:N"), alt.Tooltip("versions:Q")]
    return layered(
        base.mark_rect().encode(color=color, tooltip=tooltip),
        base.mark_text(color=_TEXT).encode(text="versions:Q"),
        height=110 + 28 * len(domains),
    )
