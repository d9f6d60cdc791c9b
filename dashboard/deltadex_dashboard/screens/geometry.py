"""The shape of all embeddings of one recipe, at three scales, each beside what chance gives."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deltadex.analysis.geometry.atoms import Parallelogram
from deltadex.analysis.geometry.chance import Measured, Refusal
from deltadex.analysis.geometry.galaxy import Galaxy
from deltadex.analysis.geometry.lobes import Lobes
from deltadex_dashboard import reads, view
from deltadex_dashboard.geometry_charts import against_chance_chart, spectrum_chart
from deltadex_dashboard.snapshots import Snapshot, snapshot


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Geometry", "How many directions all models span, which tags say what they do, what repeats.")
    if view.nothing_embedded(now):
        return
    recipe_id = view.recipe_id(now)
    measured = reads.geometry(now, recipe_id)
    if measured is None:
        st.info("Not measured yet: the reconciler does it within a minute, `deltadex geometry --recompute` now.")
        return
    found = measured.geometry
    drawn = "" if found.drawn == found.models else f" {found.drawn} of them, drawn at random, were measured."
    st.caption(
        f"{found.models} different models: each by its newest version, copies and too weak ones left out.{drawn} "
        "Directions only: how strong a finetune is plays no part.  \n"
        f"Measured {measured.basis}: again with the next clusters, or now by `deltadex geometry --recompute`."
    )
    _galaxy(found.galaxy)
    left, right = st.columns(2)
    with left:
        _scale(
            "Do tags say what models do?",
            "Groups by a tag beside groups by behaviour: 1 where they are the same, around 0 by chance.",
            found.lobes,
            [(one.name, one.agreement, one.is_found) for one in found.lobes if isinstance(one, Lobes)],
            unit="agreement",
        )
    with right:
        _scale(
            "Which differences repeat?",
            "A difference that is the same direction in every model or domain: told there from all the others.",
            found.parallelograms,
            [(one.name, one.score, one.is_found) for one in found.parallelograms if isinstance(one, Parallelogram)],
            unit="score of what the others foretell",
        )


def _galaxy(galaxy: Galaxy | Refusal) -> None:
    with st.container(border=True):
        st.subheader("How many directions do the models span?")
        st.markdown(view.plain(galaxy.meaning))
        if isinstance(galaxy, Refusal):
            return
        numbers, picture = st.columns([1, 3], gap="medium")
        with numbers:
            st.metric("Directions beyond chance", galaxy.directions)
            _number("Effective number of directions", galaxy.effective, ".1f")
            _number("Slope of the spectrum", galaxy.slope, ".2f")
            if isinstance(galaxy.entropy, Measured):
                _number("Clustering entropy, nats", galaxy.entropy, ".2f")
        picture.altair_chart(spectrum_chart(galaxy), key="spectrum", alt="Share of each direction, and by chance")


def _number(name: str, measured: Measured, form: str) -> None:
    st.metric(name, format(measured.value, form))
    st.caption(f"by chance {measured.chance.low:{form}} to {measured.chance.high:{form}}")


def _scale(
    title: str,
    what: str,
    answers: Sequence[Lobes | Parallelogram | Refusal],
    numbers: Sequence[tuple[str, Measured, bool]],
    *,
    unit: str,
) -> None:
    with st.container(border=True):
        st.subheader(title)
        st.caption(what)
        if numbers:
            st.altair_chart(against_chance_chart(numbers, title=unit), key=unit, alt=f"{title} Measured and by chance")
        for answer in answers:
            st.markdown(f"- {view.plain(answer.meaning)}")


show(snapshot())
