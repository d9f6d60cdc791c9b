"""The list of registered models. Conditions are in the address, so that a list can be shared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from deltadex.catalog.listing import ListedModel, ListedPage, ModelOrder
from deltadex.catalog.wanted import Wanted, parse_words
from deltadex.types import RiskTier, State
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import models as reads
from deltadex_dashboard.reads import pages
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_ORDERS = {ModelOrder.NEWEST: "Newest first", ModelOrder.NAME: "By name"}
_STATES = tuple(state for state in State if state is not State.DELETED)
_MOST_CHARACTERS = 200
#: Streamlit's own range ends ten years from now, on both sides.
_FIRST_DAY, _LAST_DAY = date(2000, 1, 1), date(2099, 12, 31)
_KEYS = ("text", "team", "tier", "domain", "state", "from", "until")


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Models", "The registered models, each with its newest version that meets all conditions.")
    if not pages.models(now):
        view.no_versions()
        return
    wanted = _wanted(now)
    order = ModelOrder(st.session_state.get("order") or ModelOrder.NEWEST)
    page = reads.listing(now, wanted, number=int(st.session_state.get("page") or 1), order=order)
    _summary(page, is_filtered=wanted != Wanted())
    for one in page.entries:
        _line(one)
    if page.pages > 1:
        left, _ = st.columns([1, 4])
        left.number_input(f"Page of {page.pages}", 1, page.pages, key="page", bind="query-params")


def _wanted(now: Snapshot) -> Wanted:
    """Show the conditions, say which of them no version can meet, and return them."""
    problems, choices = _unreadable_dates(), reads.choices(now)
    text, team, domain = st.columns([2, 1, 1])
    left, tier, middle, right, order = st.columns(5)
    typed = text.text_input(
        "Name or tag", key="text", bind="query-params", max_chars=_MOST_CHARACTERS, placeholder="sql team:search",
        help="Parts of a name or of a tag, all of which must match; `key:value` for a whole tag.",
    )  # fmt: skip
    of_team = _choose(team, "Team or owner", choices.teams, key="team")
    of_domain = _choose(domain, "Domain", choices.domains, key="domain")
    state = _choose(left, "State", _STATES, key="state")
    of_tier = _choose(tier, "Risk tier", tuple(RiskTier), key="tier")
    since, until = (
        column.date_input(f"Registered {key}", None, _FIRST_DAY, _LAST_DAY, key=key, bind="query-params")
        for column, key in ((middle, "from"), (right, "until"))
    )
    order.selectbox("Order", list(ModelOrder), key="order", bind="query-params", format_func=lambda each: _ORDERS[each])
    if state is not None and state not in _STATES:
        problems.append(f"There is no state {state!r}; it is left out.")
    if of_tier is not None and of_tier not in tuple(RiskTier):
        problems.append(f"There is no risk tier {of_tier!r}; it is left out.")
    tier_wanted = RiskTier(of_tier) if of_tier in tuple(RiskTier) else None
    terms, tags = parse_words(typed)
    states = frozenset({State(state)} if state in _STATES else ())
    wanted = Wanted(terms, tags, of_team, tier_wanted, of_domain, states, _start(since), _start(until, days=1))
    for problem in [*problems, *choices.unknown(wanted)]:
        st.warning(view.plain(problem))
    return wanted


def _choose(column: DeltaGenerator, label: str, options: Sequence[str], *, key: str) -> str | None:
    # New options are accepted so that a value of an old link is not dropped: the page says that nothing has it.
    return column.selectbox(
        label, options, None, key=key, bind="query-params", accept_new_options=True, placeholder="any"
    )


def _unreadable_dates() -> list[str]:
    """Return a sentence for each date of the link that can't be read: Streamlit drops it."""
    found = []
    for key in ("from", "until"):
        text = st.query_params.get(key, "")
        try:
            is_known = not text or _FIRST_DAY <= date.fromisoformat(text) <= _LAST_DAY
        except ValueError:
            is_known = False
        if not is_known:
            found.append(f"{text!r} in the link is no date, such as 2026-11-30, and is left out.")
    return found


def _start(day: date | None, *, days: int = 0) -> datetime | None:
    """Return the start of a day in UTC, or of one so many days later."""
    return None if day is None else datetime.combine(day, time(tzinfo=UTC)) + timedelta(days=days)


def _summary(page: ListedPage, *, is_filtered: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(page.in_words, width="content")
        if is_filtered:
            st.button("Remove all conditions", type="tertiary", on_click=_remove_all)
    if not page.entries:
        view.empty("No registered model meets all conditions.", "Remove a condition above.")


def _remove_all() -> None:
    for key in _KEYS:
        st.session_state[key] = "" if key == "text" else None


def _line(one: ListedModel) -> None:
    name, facts = st.columns([2, 3], vertical_alignment="center")
    version, owner = one.version, one.version.registered.owner
    with name:
        view.version_link(version)
    said = (
        "" if version.state is State.EMBEDDED else view.state_badge(version.state),
        view.alias_badges(version),
        owner and f"owner {view.plain(owner)}",
        version.registered.tier and f"{version.registered.tier} risk",
        one.domain and f"domain {view.plain(one.domain)}",
        f"{one.versions} versions" if one.versions > 1 else "",
        f"registered {view.ago(version.registered_at)}",
    )
    facts.markdown(" · ".join(filter(None, said)))


show(snapshot())
