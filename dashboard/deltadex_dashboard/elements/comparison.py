"""Two versions compared: the meaning of their similarity, what differs, words, and what is equal."""

from __future__ import annotations

import streamlit as st

from deltadex.comparison.compare_two import Closeness, TwoVersions
from deltadex.engine.probes import probe_labels
from deltadex.types import Words
from deltadex_dashboard.elements import text as view

_MOST_WORDS = 10


def show(found: TwoVersions, *, key: str) -> None:
    """Show a comparison, differences first."""
    st.markdown("**What differs**")
    if found.differences:
        _differences(found)
    else:
        st.caption("Nothing that is known of them.")
    if found.note:
        st.caption(view.plain(found.note))
    if found.closeness:
        _closeness(found.closeness)
    else:
        st.info(f"**No similarity.** {view.plain(found.obstacle)}")
    for row, column, words in zip(found.rows, st.columns(2, gap="large"), found.words, strict=True):
        with column:
            _words(row.label, words)
    if found.closeness:
        _probes(found.closeness, key=key)
    # A toggle: Streamlit renders the content of an expander even if it is closed.
    if found.equal and st.toggle(f"Equal in both ({len(found.equal)})", key=f"equal-{key}"):
        st.dataframe({"fact": list(found.equal), "value": list(found.equal.values())}, hide_index=True)


def _closeness(found: Closeness) -> None:
    st.info(f"**Similarity {found.similarity:.3f}.** {view.plain(found.meaning)}")
    move = found.compared.move
    if not move.is_beyond_noise:
        st.caption(f"Their distance of {move.distance:.4f} is within the noise of {move.noise:.4f}.")


def _differences(found: TwoVersions) -> None:
    one, other = (row.label for row in found.rows)
    # Both columns of a version compared with itself would have one name; it has no differences.
    st.dataframe(
        {
            "part": [part for part, _ in found.differences],
            "fact": [each.name for _, each in found.differences],
            one: [each.before or "" for _, each in found.differences],
            other: [each.after or "" for _, each in found.differences],
        },
        hide_index=True,
    )


def _words(label: str, words: Words | None) -> None:
    st.markdown(f"**{view.plain(label)}**")
    if words is None or words.note:
        st.caption(f"No words: {view.plain(words.note) if words else 'they are not known.'}")
        return
    for verb, listed in (("Promotes", words.promoted), ("Demotes", words.demoted)):
        st.markdown(f"{verb} " + (" · ".join(view.plain(word.text) for word in listed[:_MOST_WORDS]) or "nothing"))


def _probes(found: Closeness, *, key: str) -> None:
    distances = found.compared.move.probe_distances
    if distances is None:
        st.caption("No distances by probe: one of the versions has none stored.")
    elif st.toggle("Probe by probe", key=f"probes-{key}"):
        labels = probe_labels(found.recipe.probe_set, len(distances))
        st.dataframe({"the probe's own text": labels, "cosine distance": distances}, hide_index=True)
