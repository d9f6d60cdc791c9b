"""Router of the dashboard, run by `streamlit run app.py`. Every page has its own path, so that links can be shared.

The pages are in `screens/`. If there were a folder named `pages`, Streamlit would answer the first deep link after its
start by running that page without this router.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from deltadex.errors import DeltadexError
from deltadex_dashboard.elements import history
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.places import PLACES, Screen, place_of
from deltadex_dashboard.reads.snapshots import freeze_cached, snapshot

_HERE = Path(__file__).parent
# Local files: Streamlit fetches icons that are given by name from the internet.
_MARK, _LOGO = str(_HERE / "mark.svg"), str(_HERE / "logo.svg")
# Less space above page titles and above progress bars without a label; links aligned with text, and none marked because
# it leads to the page that it is on, nor cut off; captions with a contrast of 4.5:1 in both themes.
_STYLE = """<style>
.stMainBlockContainer {padding-top: 4.5rem; padding-bottom: 3rem}
.stProgress {margin-top: -0.5rem}
[data-testid="stPageLink-NavLink"] {padding-left: 0; background: none}
[data-testid="stPageLink-NavLink"] * {white-space: normal; overflow-wrap: anywhere}
[data-testid="stCaptionContainer"] {opacity: .8}
.st-key-inbox-bar {position: sticky; top: 3.75rem; z-index: 10; backdrop-filter: blur(8px)}
</style>"""


def _page(place: str, screen: Screen, *, is_first: bool) -> st.Page:
    return st.Page(
        _HERE / "screens" / f"{screen.name}.py",
        title=place if is_first else screen.label,
        url_path=screen.name,
        default=screen.name == "overview",
        visibility="visible" if is_first else "hidden",
    )


def _links_within_place(name: str) -> None:
    """Show links to the pages of the place that a page belongs to, if there are several."""
    screens = place_of(name)
    if len(screens) > 1:
        with st.container(horizontal=True):
            for screen in screens:
                label = f"**{screen.label}**" if screen.name == name else screen.label
                st.page_link(f"screens/{screen.name}.py", label=label)


st.set_page_config("Deltadex", page_icon=_MARK, layout="wide")
st.logo(_LOGO)
st.html(_STYLE)
history.one_entry_per_step()
page = st.navigation(
    [_page(place, screen, is_first=screen is screens[0]) for place, screens in PLACES.items() for screen in screens],
    position="top",
)
shown_revision: str | None = None
try:
    now = snapshot()
    view.workspace_choice(now)
    _links_within_place(page.url_path or "overview")
    page.run()
    view.login_status(now)
    shown_revision = now.revision
    freeze_cached(now.revision)
except DeltadexError as error:
    view.error_page(error)
view.rerun_on_change(shown_revision)
