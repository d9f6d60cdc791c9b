"""Ownership of a registered model: facts, the form that states them, attestation and history."""

from __future__ import annotations

import streamlit as st

from deltadex.access import Right
from deltadex.ownership import actions
from deltadex.ownership.attestation import STATEMENT, AttestationState, Ownership
from deltadex.ownership.facts import MOST_CHARACTERS, FactOrigin, OwnershipField
from deltadex.types import RiskTier
from deltadex_dashboard.elements import decision_form
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import models as reads
from deltadex_dashboard.reads.snapshots import Snapshot

_UNKNOWN = "not known"
_BADGES = {AttestationState.CURRENT: "green", AttestationState.NOT_NEEDED: "gray", AttestationState.NO_TIER: "gray"}


def show(now: Snapshot, name: str) -> None:
    """Show who answers for a model in a line, and the rest behind a toggle."""
    known = reads.ownership(now, name)
    if known is None:
        return
    st.markdown(_line(known))
    decision_form.outcome()
    # A toggle: Streamlit renders the content of an expander even if it is closed.
    if not st.toggle("Owner, tier and attestation", key="ownership"):
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        _facts(known)
        _history(now, name)
    with right:
        _attest(now, known)
        _form(now, known)


def _line(known: Ownership) -> str:
    parts = [
        f"Owner **{view.plain(known.owner)}**" if known.owner else "No owner",
        f"{known.tier} risk" if known.tier else "no risk tier",
        f"next review {known.review_by}" if known.review_by else "",
        f":{_BADGES.get(known.state, 'red')}-badge[attestation: {known.state}]",
        f"until {known.until}" if known.state is AttestationState.CURRENT else "",
    ]
    return " · ".join(filter(None, parts))


def _facts(known: Ownership) -> None:
    facts = [known.fact(field) for field in OwnershipField]
    st.dataframe(
        {
            "fact": [field.words for field in OwnershipField],
            "value": [fact.value or _UNKNOWN for fact in facts],
            "from": [" ".join(filter(None, (fact.origin, fact.tag))) for fact in facts],
        },
        hide_index=True,
    )
    for fact in facts:
        if fact.remark:
            st.caption(view.plain(fact.remark))
    if known.reason:
        st.warning(view.plain(known.reason))


def _history(now: Snapshot, name: str) -> None:
    entries = reads.ownership_history(now, name)
    if not entries:
        st.caption("Nothing was stated or attested yet: what is known comes from tags in MLflow.")
        return
    st.dataframe(
        {
            "at": [view.utc(entry.recorded_at) for entry in entries],
            "who": [entry.person for entry in entries],
            "what": [entry.field.replace("_", " ") for entry in entries],
            "before": [entry.former or "" for entry in entries],
            "after": [entry.stated or entry.statement.get("intended_use", "") for entry in entries],
        },
        hide_index=True,
    )


def _attest(now: Snapshot, known: Ownership) -> None:
    if not actions.may_attest(now.person, now.settings, known):
        st.caption("The owner attests this model.")
        return
    st.markdown(f"“{STATEMENT}”")
    st.button("Attest", key="attest", on_click=_attested, args=(known,))


def _attested(known: Ownership) -> None:
    decision_form.take_step(
        lambda tx, now: actions.attest(tx, now.person, now.settings, known.model, seen=known),
        done="The attestation is recorded. A finding about it closes within a minute.",
    )


def _form(now: Snapshot, known: Ownership) -> None:
    if not now.person.may(Right.DECIDE):
        st.caption(f"{view.plain(now.person.name)} is a {now.person.role}. Only reviewers change these facts.")
        return
    with st.form("ownership-form", border=True):
        st.caption("Empty: what MLflow's tags say. What is stated here wins, and is written to the tags.")
        st.text_input(
            "Owner",
            _stated(known, OwnershipField.OWNER),
            MOST_CHARACTERS[OwnershipField.OWNER],
            key=_key(known, OwnershipField.OWNER),
        )
        tiers = ["", *RiskTier]
        st.selectbox(
            "Risk tier", tiers, tiers.index(_stated(known, OwnershipField.TIER)), key=_key(known, OwnershipField.TIER)
        )
        st.text_area(
            "Intended use", _stated(known, OwnershipField.INTENDED_USE),
            max_chars=MOST_CHARACTERS[OwnershipField.INTENDED_USE], key=_key(known, OwnershipField.INTENDED_USE),
        )  # fmt: skip
        st.text_input(
            "Next review",
            _stated(known, OwnershipField.REVIEW_BY),
            key=_key(known, OwnershipField.REVIEW_BY),
            placeholder="2026-12-31",
        )
        st.form_submit_button("Save", on_click=_saved, args=(known,))


def _saved(known: Ownership) -> None:
    changes = {field: str(st.session_state[_key(known, field)]).strip() or None for field in OwnershipField}
    decision_form.take_step(
        lambda tx, now: actions.edit(tx, now.person, now.settings, known.model, changes, seen=known),
        done="Saved. MLflow's tags follow within a minute.",
    )


def _key(known: Ownership, field: OwnershipField) -> str:
    # With the model: a text typed for one must not be saved for another.
    return f"{field}-of-{known.model}"


def _stated(known: Ownership, field: OwnershipField) -> str:
    fact = known.fact(field)
    return fact.value if fact.origin is FactOrigin.STATED else ""
