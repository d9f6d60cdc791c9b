"""Two versions of a duplicate group side by side: facts, sizes and differences."""

from __future__ import annotations

import streamlit as st
from rich.filesize import decimal

from deltadex.access import HIDDEN
from deltadex.drift.compare import Comparison
from deltadex.duplicates.groups import Group
from deltadex.types import VersionRow
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot


def show(now: Snapshot, recipe_id: int, group: Group) -> None:
    """Show two chosen members of a group side by side; only members that the person may see can be chosen."""
    visible = {row.label: row for row in group.versions if row.registered.ref.name != HIDDEN}
    key = f"beside-{group.kind}-{group.versions[0].id}"
    if len(visible) < 2 or not st.toggle("Side by side", key=key):
        return
    left, right = st.columns(2)
    keeper = group.proposal.keeper
    first = list(visible).index(keeper.label) if keeper and keeper.label in visible else 0
    one = visible[left.selectbox("One version", list(visible), first, key=f"{key}-one")]
    others = [label for label in visible if label != one.label]
    other = visible[right.selectbox("Other version", others, key=f"{key}-other")]
    compared = reads.comparison(now, recipe_id, one.id, other.id)
    facts = _facts(one, other, compared)
    st.dataframe(
        {"fact": list(facts), one.label: [pair[0] for pair in facts.values()],
         other.label: [pair[1] for pair in facts.values()]},
        hide_index=True,
    )  # fmt: skip
    if compared is not None:
        _differences(compared)


def _facts(one: VersionRow, other: VersionRow, compared: Comparison | None) -> dict[str, tuple[str, str]]:
    sides = (_version_facts(one), _version_facts(other))
    if compared is not None:
        for side, strength in zip(sides, compared.strengths, strict=True):
            side["strength"] = f"{strength:.4f}"
    return {name: (sides[0].get(name, ""), sides[1].get(name, "")) for name in {**sides[0], **sides[1]}}


def _version_facts(row: VersionRow) -> dict[str, str]:
    size = row.provenance.weights_bytes
    return {
        "registered": view.utc(view.registered_at(row)),
        "owner": row.registered.owner or "",
        "aliases": ", ".join(f"@{alias}" for alias in row.registered.aliases),
        "weights": "" if size is None else decimal(size),
        "weights digest": row.weights_digest[:12] if row.weights_digest else "",
        "training (same data and parameters)": (row.provenance.training_digest or "")[:12],
        **{f"parameter {name}": str(value) for name, value in sorted(row.provenance.settings.items())},
        **{f"metric {name}": f"{value:g}" for name, value in sorted(row.provenance.metrics.items())},
        **{f"tag {name}": value for name, value in sorted(row.registered.tags.items())},
    }


def _differences(compared: Comparison) -> None:
    move = compared.move
    ratio = "" if move.strength_ratio is None else f", strength × {move.strength_ratio:.2f}"
    st.caption(f"Cosine distance {move.distance:.4f}{ratio}. The noise is {move.noise:.4f}.")
    if move.probe_distances is None:
        st.caption("No distances by probe: one of the versions has none stored.")
        return
    probes = [f"probe {number}" for number in range(1, len(move.probe_distances) + 1)]
    st.dataframe({"probe": probes, "cosine distance": move.probe_distances}, hide_index=True)
