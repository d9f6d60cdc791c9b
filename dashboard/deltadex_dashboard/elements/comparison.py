"""Two versions compared: the meaning of their similarity, what differs, words, and what is equal."""

from __future__ import annotations

import streamlit as st

from deltadex.comparison.compare_two import Closeness, TwoVersions
from deltadex.engine.probes import probe_labels
from deltadex.types import Words
from deltadex_dashboard.elements import text as view

_MOST_WORDS = 10
#: Of one cell: tags may be long.
_MOST_CHARACTERS = 200


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
        values = {"fact": map(_cell, found.equal), "value": map(_cell, found.equal.values())}
        st.table({name: list(cells) for name, cells in values.items()}, border="horizontal", hide_index=True)


def _closeness(found: Closeness) -> None:
    st.info(f"**Similarity {found.similarity:.3f}.** {view.plain(found.meaning)}")
    move = found.compared.move
    if not move.is_beyond_noise:
        st.caption(f"Their distance of {move.distance:.4f} is within the noise of {move.noise:.4f}.")


def _differences(found: TwoVersions) -> None:
    one, other = (view.plain(row.label) for row in found.rows)
    facts = [each for _, each in found.differences]
    # Not a data frame: texts wrap, on a phone too, and the browser finds them.
    st.table(
        {
            "part": [part for part, _ in found.differences],
            "fact": [_cell(each.name) for each in facts],
            one: [_cell(each.before) for each in facts],
            other: [_cell(each.after) for each in facts],
        },
        border="horizontal", hide_index=True,
    )  # fmt: skip


def _cell(text: str | None) -> str:
    text = text or ""
    return view.plain(text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…")


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
        cells = {"the probe's own text": map(view.plain, labels), "cosine distance": map("{:.4f}".format, distances)}
        st.table({name: list(column) for name, column in cells.items()}, border="horizontal", hide_index=True)
