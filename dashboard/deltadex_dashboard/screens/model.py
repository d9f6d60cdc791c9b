"""The page of one registered model: versions, findings, drift, lineage and neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from deltadex.errors import DeltadexError
from deltadex.escaping import markdown_hint
from deltadex.evidence.pack import zip_name
from deltadex.lineage.dot import lineage_dot, lineage_words
from deltadex.reviews.lifecycle import UNDECIDED
from deltadex.reviews.queries import ReviewRow
from deltadex.types import State, VersionRow
from deltadex_dashboard.charts.drift import drift_chart, drift_words, probes_chart
from deltadex_dashboard.elements import finding, ownership, safety, taught
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import models
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_WORDS = 10
_MOST_DECISIONS = 20


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Model", "One registered model: its versions, their drift, lineage and neighbours.")
    names = reads.models(now)
    if not names:
        view.no_versions()
        return
    left, right = st.columns([3, 2])
    # New options are accepted so that a name of an old link is not dropped: the page says that it is not known.
    name = left.selectbox(
        "Registered model", names, None, key="model", bind="query-params", accept_new_options=True,
        placeholder="Choose a model",
    )  # fmt: skip
    if name is None:
        view.empty("No model is chosen.", "Choose one above, or one of the list of models.")
        return
    if name not in names:
        view.empty(
            f"{view.plain(name)} is not known.", "It was deleted or renamed, or is not shown to you. Choose one above."
        )
        return
    rows = {row.registered.ref.version: row for row in reversed(reads.model(now, name)) if row.state != State.DELETED}
    with right:
        row = _version(rows)
    facts = reads.version(now, row.id)
    _head(row)
    ownership.show(now, name)
    _compare(row, rows, facts)
    _evidence(now, row)
    _findings(row, facts.reviews)
    _numbers(facts)
    _words(facts)
    _mixture(facts)
    _drift(now, name)
    _lineage(now, row, facts)
    safety.show(now, row)
    taught.show(now, row)
    left, right = st.columns(2, gap="large")
    with left:
        _neighbors(row, facts)
        _tags(row)
    with right:
        _versions(list(rows.values()))
        _history(facts)
        _decisions(facts)


def _version(rows: Mapping[int, VersionRow]) -> VersionRow:
    """Show the select box of versions and return the chosen one; say if the link names one that is not there."""
    # No default: Streamlit leaves defaults out of the link, and a shared link must keep pointing to this version.
    numbers = {str(number): row for number, row in sorted(rows.items(), reverse=True)}
    number = st.selectbox(
        "Version", list(numbers), None, key="version", bind="query-params", accept_new_options=True,
        placeholder="newest",
    )  # fmt: skip
    newest = next(iter(numbers.values()))
    if number is not None and number not in numbers:
        st.warning(view.plain(f"There is no version {number}. Shown is the newest, {newest.registered.ref.version}."))
    return numbers.get(number or "", newest)


def _head(row: VersionRow) -> None:
    st.subheader(f"{view.plain(row.label)} {view.state_badge(row.state)} {view.alias_badges(row)}")
    st.caption(f"Registered {view.utc(row.registered_at)} · state since {view.ago(row.state_since)}")
    if row.registered.description:
        st.markdown(view.plain(row.registered.description))
    if row.state is State.SKIPPED:
        st.info(f"**Skipped:** {view.plain(row.reason)}")
        st.caption(f"If it is a language model after all, {view.retry_command(row)} reads it again.")
    if row.state in (State.WAITING, State.FAILED, State.UNSUPPORTED):
        st.error(f"**{row.state.capitalize()}:** {view.plain(row.reason)}")
        if row.hint:
            st.info(markdown_hint(row.hint))
        st.caption(f"When the cause is fixed, {view.retry_command(row)} starts it again.")


def _compare(row: VersionRow, rows: Mapping[int, VersionRow], facts: reads.VersionFacts) -> None:
    """Show links to comparisons: with the version before, with the closest model, and with any."""
    before = [rows[number] for number in sorted(rows) if number < row.registered.ref.version][-1:]
    closest = [one.version for one in facts.neighbors if not one.version.registered.ref.is_hidden][:1]
    with st.container(horizontal=True):
        for other in {each.id: each for each in (*before, *closest)}.values():
            _compare_link(row, f"Compare with {view.short(other.label)}", b=other.label)
        _compare_link(row, "Compare with…")


def _compare_link(row: VersionRow, label: str, **others: str) -> None:
    params = {"a": row.label, **others}
    st.page_link("screens/compare.py", label=f":blue[{view.plain(label)}]", query_params=params)


@st.fragment
def _evidence(now: Snapshot, row: VersionRow) -> None:
    """Offer the evidence pack, made when it is asked for."""
    is_asked = st.button(
        "Make the evidence pack",
        key="evidence",
        help="Model card, findings, decisions with their proof, lineage, licences, training, ML-BOM: in one file, for "
        "people who don't open this page. It is signed if this house has a key, and made as you may see it.",
    )
    if not is_asked:
        return
    # Made before it is saved: of an error in the saving itself, Streamlit tells the browser nothing.
    try:
        pack = reads.evidence(now, row.id)
    except DeltadexError as error:
        st.error(f"**{view.plain(error.message)}.** {markdown_hint(error.hint)}")
        return
    st.download_button(
        "Save the evidence pack", pack, zip_name(row.label), "application/zip", key="evidence-file", on_click="ignore"
    )


def _findings(row: VersionRow, found: Sequence[ReviewRow]) -> None:
    for one in found:
        others = [other for other in one.versions if other.id != row.id]
        text, link = st.columns([3, 2], vertical_alignment="center")
        is_open = one.review.status in UNDECIDED
        (text.warning if is_open else text.info)(_sentence(one))
        with link, st.container(horizontal=True, vertical_alignment="center"):
            st.page_link("screens/inbox.py", label=":blue[Review]", query_params={"finding": str(one.id)})
            if others:
                _link(others[0], key=f"finding-{one.id}")


def _sentence(one: ReviewRow) -> str:
    status = one.review.status.replace("_", " ")
    return " · ".join(filter(None, (f"**{finding.headline(one)}**", finding.numbers(one), status)))


def _numbers(facts: reads.VersionFacts) -> None:
    if not facts.embeddings:
        return
    latest, strength, agreement, closest, copies = facts.embeddings[0], *st.columns(4)
    strength.metric(
        "Strength", f"{latest.strength:.3f}", border=True,
        help="Size of the finetune's change: norm of the delta / norm of the base's own hidden state.",
    )  # fmt: skip
    agreement.metric(
        "Probe agreement", f"{latest.agreement:.3f}", border=True,
        help="Similarity of the deltas of single probes: 1 if all of them have the same direction.",
    )  # fmt: skip
    similarity = f"{facts.neighbors[0].similarity:.3f}" if facts.neighbors else "–"
    closest.metric("Closest neighbour", similarity, border=True, help="Cosine similarity in the full space.")
    copies.metric("Copies of its weights", len(facts.same_weights), border=True)


def _words(facts: reads.VersionFacts) -> None:
    for one in facts.words[:1]:
        if one.words is None or one.words.note:
            note = view.plain(one.words.note) if one.words else "the version was embedded without them."
            st.caption(f"No words: {note}")
            continue
        for verb, words in (("Promotes", one.words.promoted), ("Demotes", one.words.demoted)):
            st.markdown(f"**{verb}** " + " · ".join(view.plain(word.text) for word in words[:_WORDS]))
        noise = " Too weak to place: little more than noise." if one.is_weak else ""
        st.caption(f"Tokens that the finetune makes more and less likely as it goes on, {one.words.beside}.{noise}")


def _mixture(facts: reads.VersionFacts) -> None:
    for one in facts.explanations[:1]:
        if one.unexplained is None:
            # Not escaped: our own text, which contains a command.
            st.caption(f"No mixture: {one.note}")
            continue
        st.markdown(f"**Made of** {view.plain(one.words)}")
        st.caption(
            "The mixture of other models' domains that is closest to this version's change, and the share that no "
            "mixture explains."
        )


def _drift(now: Snapshot, name: str) -> None:
    if drifted := reads.drift(now, name):
        base = view.plain(drifted.base_name)
        st.markdown(f"**Drift** over {len(drifted.versions)} versions · base {base} · the grey area is noise")
        st.altair_chart(drift_chart(drifted), key="drift", alt=drift_words(drifted))
        # A toggle: Streamlit renders the content of an expander even if it is closed.
        if st.toggle("Probe by probe", key="probes"):
            st.altair_chart(probes_chart(drifted), key="each-probe", alt="Distance by step and probe")


def _neighbors(row: VersionRow, facts: reads.VersionFacts) -> None:
    st.subheader("Neighbours")
    if facts.neighbors:
        view.neighbor_list(facts.neighbors, link=lambda other: _link(other, key="neighbour"))
    elif any(stored.is_weak for stored in facts.embeddings):
        st.caption("None: this version changes its base too little for a meaningful comparison.")
    elif row.state is State.EMBEDDED:
        st.caption("None: no other version has been embedded under the same recipe.")
    else:
        st.caption("None until the version is embedded.")


def _versions(rows: Sequence[VersionRow]) -> None:
    st.subheader("Versions")
    for row in sorted(rows, key=lambda row: row.registered.ref.version, reverse=True):
        name, state, registered = st.columns([3, 2, 2], vertical_alignment="center")
        with name:
            _link(row, key="version", label=f"version {row.registered.ref.version}")
        state.markdown(view.state_badge(row.state))
        registered.caption(view.ago(row.registered_at))


def _lineage(now: Snapshot, row: VersionRow, facts: reads.VersionFacts) -> None:
    st.subheader("Lineage")
    if edges := models.lineage(now, row.id):
        dot = lineage_dot(edges, row, is_dark=st.context.theme.type == "dark")
        st.graphviz_chart(dot, alt=lineage_words(edges))
        st.caption(
            "Solid lines: declared in the registry or by the files. Dashed lines: measured; without an arrow, nothing "
            "tells which came first."
        )
    else:
        st.caption("No relation to another version or base is known.")
    for remark in models.lineage_remarks(now, row.id):
        st.caption(view.plain(remark))
    # Masked versions have no creation time.
    created_ms = row.registered.ref.created_ms
    older = [one for one in facts.neighbors if 0 < one.version.registered.ref.created_ms < created_ms]
    closest = f"{older[0].version.label}, {older[0].similarity:.3f}" if older else "none among its neighbours"
    left, right = st.columns(2, gap="large")
    with left:
        _facts(
            {
                "closest older version": closest,
                "source": now.person.shown_address(row.registered.source),
                "run": row.registered.run_id or "none",
                "artifact": row.artifact_uri or "none",
                "weights": row.weights_digest or "none",
            }
        )
    if facts.same_weights:
        with right:
            st.caption("The same weights are registered as:")
            for copy in facts.same_weights:
                _link(copy, key="copy")


def _history(facts: reads.VersionFacts) -> None:
    st.subheader("History")
    changes = facts.history[::-1]
    st.dataframe(
        {
            "at": [view.utc(change.at) for change in changes],
            "state": [str(change.state) for change in changes],
            "attempt": [change.attempt for change in changes],
            "reason": [change.reason for change in changes],
        },
        hide_index=True,
    )


def _decisions(facts: reads.VersionFacts) -> None:
    st.subheader("Decisions")
    finding.timeline(facts.decisions[-_MOST_DECISIONS:], named=True)
    if not facts.decisions:
        st.caption("There are no decisions yet.")
    elif len(facts.decisions) > _MOST_DECISIONS:
        st.caption(f"The latest {_MOST_DECISIONS}; the review of each finding lists all of them.")


def _link(row: VersionRow, *, key: str, label: str | None = None) -> None:
    if row.registered.ref.is_hidden:
        view.version_link(row)
        return
    # A button: a link from a page to itself would show the other version under the address of this one.
    text = label or row.label
    st.button(
        f":blue[{view.plain(view.short(text))}]",
        help=view.full(text),
        key=f"{key}-{row.id}",
        type="tertiary",
        on_click=_open,
        args=(row,),
    )


def _open(row: VersionRow) -> None:
    st.session_state["model"], st.session_state["version"] = row.registered.ref.name, str(row.registered.ref.version)


def _tags(row: VersionRow) -> None:
    if row.registered.own_tags:
        st.subheader("Tags")
        _facts(dict(sorted(row.registered.own_tags.items())))


def _facts(facts: dict[str, str]) -> None:
    if facts:
        st.dataframe({"fact": list(facts), "value": list(facts.values())}, hide_index=True)


show(snapshot())
