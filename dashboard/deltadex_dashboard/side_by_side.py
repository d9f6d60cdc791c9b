"""Two versions of a group beside each other: what is said of them, what they weigh, how they differ."""

from __future__ import annotations

import streamlit as st
from rich.filesize import decimal

from deltadex.analysis.redundancy import Group
from deltadex.comparison import Comparison
from deltadex.domain import VersionRow
from deltadex.governance.access import HIDDEN
from deltadex_dashboard import reads, view
from deltadex_dashboard.snapshots import Snapshot


def show(now: Snapshot, recipe_id: int, group: Group) -> None:
    """Offer to compare two members that the person may see."""
    shown = {row.label: row for row in group.versions if row.registered.ref.name != HIDDEN}
    key = f"beside-{group.kind}-{group.versions[0].id}"
    if len(shown) < 2 or not st.toggle("Side by side", key=key):
        return
    left, right = st.columns(2)
    keeper = group.keeper.version.label
    first = list(shown).index(keeper) if keeper in shown else 0
    one = shown[left.selectbox("One", list(shown), first, key=f"{key}-one")]
    others = [label for label in shown if label != one.label]
    other = shown[right.selectbox("The other", others, key=f"{key}-other")]
    compared = reads.comparison(now, recipe_id, one.id, other.id)
    facts = _facts(one, other, compared)
    st.dataframe(
        {"fact": list(facts), one.label: [each[0] for each in facts.values()],
         other.label: [each[1] for each in facts.values()]},
        hide_index=True,
    )  # fmt: skip
    if compared is not None:
        _differences(compared)


def _facts(one: VersionRow, other: VersionRow, compared: Comparison | None) -> dict[str, tuple[str, str]]:
    sides = (_of(one), _of(other))
    if compared is not None:
        for side, strength in zip(sides, compared.strengths, strict=True):
            side["strength"] = f"{strength:.4f}"
    return {name: (sides[0].get(name, ""), sides[1].get(name, "")) for name in {**sides[0], **sides[1]}}


def _of(row: VersionRow) -> dict[str, str]:
    size = row.provenance.weights_bytes
    return {
        "registered": view.utc(view.registered_at(row)),
        "owner": row.registered.owner or "",
        "aliases": ", ".join(f"@{alias}" for alias in row.registered.aliases),
        "weights": "" if size is None else decimal(size),
        **{f"metric {name}": f"{value:g}" for name, value in sorted(row.provenance.metrics.items())},
        **{f"tag {name}": value for name, value in sorted(row.registered.tags.items())},
    }


def _differences(compared: Comparison) -> None:
    move = compared.move
    ratio = "" if move.strength_ratio is None else f", strength × {move.strength_ratio:.2f}"
    st.caption(f"Cosine distance {move.distance:.4f}{ratio}. Noise alone reaches {move.noise:.4f}.")
    if move.probe_distances is None:
        st.caption("Probe by probe: not kept for one of them.")
        return
    probes = [f"probe {number}" for number in range(1, len(move.probe_distances) + 1)]
    st.dataframe({"probe": probes, "cosine distance": move.probe_distances}, hide_index=True)
