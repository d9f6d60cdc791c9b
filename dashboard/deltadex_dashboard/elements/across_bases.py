"""The map of all bases by Delta Meaning, with the counterparts of a version on other bases."""

from __future__ import annotations

import streamlit as st

from deltadex.across.reads import AcrossMap
from deltadex.escaping import markdown_hint
from deltadex.types import DOMAIN_TAG
from deltadex_dashboard.charts.colors import TEXT_COLORS
from deltadex_dashboard.charts.map import MapPoint, hover_cards, map_figure
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import across as reads
from deltadex_dashboard.reads.snapshots import Snapshot

_DOMAIN, _BASE = f"tag: {DOMAIN_TAG}", "base"


def is_chosen(now: Snapshot) -> bool:
    """Let a person choose the map of all bases; no choice where only one base is known."""
    if sum(one.known > 0 for one in reads.coverage(now)) < 2:
        return False
    return bool(st.toggle("All bases, by meaning", key="across", bind="query-params"))


def show(now: Snapshot) -> None:
    """Draw the map of all bases."""
    drawn = reads.across_map(now)
    labels = {row.label: row for row in drawn.rows if not row.registered.ref.is_hidden}
    color, chosen = st.columns([2, 5])
    with color:
        by = st.selectbox("Colour by", [_DOMAIN, _BASE], key="across-color", bind="query-params")
    with chosen:
        selected = st.selectbox(
            "Selected version", sorted(labels), index=None, key="across-selected", bind="query-params",
            placeholder="Choose one to see its counterparts",
        )  # fmt: skip
    row = labels.get(selected or "")
    left, right = st.columns([7, 3], gap="medium")
    with left, st.container(border=True):
        figure = map_figure(
            _points(drawn, by), drawn.coordinates, selected=row.id if row else None,
            text_color=TEXT_COLORS[st.context.theme.type or "light"],
        )  # fmt: skip
        st.plotly_chart(figure, key="across-map", config={"displaylogo": False}, alt="Map of all bases by meaning")
        st.caption(_caption(now, drawn))
    with right:
        st.subheader("On other bases")
        if row is None:
            st.caption("Choose a version to see the finetunes of other bases that are most like it.")
        else:
            _counterparts(now, row.id)


def _points(drawn: AcrossMap, by: str) -> list[MapPoint]:
    domains = [row.registered.tags.get(DOMAIN_TAG) for row in drawn.rows]
    facts = [
        (("domain", domain), ("base", base), ("owner", row.registered.owner))
        for row, domain, base in zip(drawn.rows, domains, drawn.base_names, strict=True)
    ]
    groups = domains if by == _DOMAIN else drawn.base_names
    values = zip(drawn.rows, groups, hover_cards(facts), strict=True)
    return [MapPoint(row.id, row.label, group, card) for row, group, card in values]


def _caption(now: Snapshot, drawn: AcrossMap) -> str:
    missing = sum(one.versions - one.known for one in reads.coverage(now))
    waiting = f" {missing:,} more are not compared yet: `deltadex across --update`." if missing else ""
    return (
        f"{len(drawn.rows):,} finetunes of {len(drawn.bases)} bases by Delta Meaning: which of a few fixed texts each "
        f"makes likelier than its base does.{waiting} **Near each other is a hint, never a duplicate:** bases differ "
        "in more than their finetunes, and this map projects hundreds of dimensions to two."
    )


def _counterparts(now: Snapshot, version_id: int) -> None:
    found = reads.counterparts(now, version_id)
    if found.nearest:
        st.caption("A shortlist. Between unrelated bases the first is of the same field about every second time.")
    for one in found.nearest:
        view.version_link(one.version)
        st.caption(f"{view.plain(one.base_name)} · similarity of meaning {one.similarity:.3f}")
    if found.note:
        st.caption(markdown_hint(found.note))
