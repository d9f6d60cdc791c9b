"""The geometry page: the shape of all embeddings of one recipe at three scales, compared with chance."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deltadex.geometry.atoms import Parallelogram
from deltadex.geometry.chance import NumberByChance, Refusal
from deltadex.geometry.galaxy import Galaxy
from deltadex.geometry.lobes import Lobes
from deltadex_dashboard.charts.geometry import against_chance_chart, spectrum_chart
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading(
        "Geometry", "Directions that the models span, tags that match their behaviour, and differences that repeat."
    )
    if view.nothing_embedded(now):
        return
    recipe_id = view.recipe_id(now)
    measured = reads.geometry(now, recipe_id)
    if measured is None:
        st.info(
            "Not measured yet. A worker does so within a minute; `deltadex geometry --recompute` does so immediately."
        )
        return
    found = measured.geometry
    sample = "" if found.sampled == found.models else f" A random sample of {found.sampled} was measured."
    st.caption(
        f"{found.models} different models, each by its newest version, without copies and weak versions.{sample} "
        "Only the direction of an embedding is used, not its strength.  \n"
        f"Measurement {measured.basis}. It is repeated with the next clustering, or by `deltadex geometry --recompute`."
    )
    _galaxy(found.galaxy)
    left, right = st.columns(2)
    with left:
        _scale(
            "Tags and behaviour",
            "Agreement between groups by a tag and groups by behaviour: 1 for equal groups, around 0 by chance.",
            found.lobes,
            [(one.name, one.agreement, one.is_found) for one in found.lobes if isinstance(one, Lobes)],
            unit="agreement",
        )
    with right:
        _scale(
            "Repeated differences",
            "Differences with the same direction in every model or domain. The score measures the prediction of each "
            "difference from all the others.",
            found.parallelograms,
            [(one.name, one.score, one.is_found) for one in found.parallelograms if isinstance(one, Parallelogram)],
            unit="score of the prediction from the others",
        )


def _galaxy(galaxy: Galaxy | Refusal) -> None:
    with st.container(border=True):
        st.subheader("Directions that the models span")
        st.markdown(view.plain(galaxy.meaning))
        if isinstance(galaxy, Refusal):
            return
        numbers, chart = st.columns([1, 3], gap="medium")
        with numbers:
            st.metric("Directions beyond chance", galaxy.directions)
            _number("Effective number of directions", galaxy.effective, ".1f")
            _number("Slope of the spectrum", galaxy.slope, ".2f")
            if isinstance(galaxy.entropy, NumberByChance):
                _number("Clustering entropy, nats", galaxy.entropy, ".2f")
        chart.altair_chart(spectrum_chart(galaxy), key="spectrum", alt="Share of each direction, and by chance")


def _number(name: str, measured: NumberByChance, number_format: str) -> None:
    st.metric(name, format(measured.value, number_format))
    st.caption(f"by chance {measured.chance.low:{number_format}} to {measured.chance.high:{number_format}}")


def _scale(
    title: str,
    explanation: str,
    answers: Sequence[Lobes | Parallelogram | Refusal],
    numbers: Sequence[tuple[str, NumberByChance, bool]],
    *,
    unit: str,
) -> None:
    with st.container(border=True):
        st.subheader(title)
        st.caption(explanation)
        if numbers:
            st.altair_chart(
                against_chance_chart(numbers, title=unit), key=unit, alt=f"{title}: measured values and chance"
            )
        for answer in answers:
            st.markdown(f"- {view.plain(answer.meaning)}")


show(snapshot())
