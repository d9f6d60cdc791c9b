"""The router: `streamlit run app.py`. Every page has a path of its own, so that a link to it can be shared.

The pages lie in `screens/`: beside a folder named `pages` Streamlit answers the first deep link after its start by
running that page without this router.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from deltadex.errors import DeltadexError
from deltadex_dashboard import view
from deltadex_dashboard.snapshots import set_aside, snapshot

_HERE = Path(__file__).parent
# Files of ours: Streamlit would fetch an icon by name from elsewhere.
_MARK, _LOGO = str(_HERE / "mark.svg"), str(_HERE / "logo.svg")
# Less room above a page's name, none above a bar for the label that it doesn't have, and links in line with text.
_STYLE = """<style>
.stMainBlockContainer {padding-top: 4.5rem; padding-bottom: 3rem}
.stProgress {margin-top: -0.5rem}
[data-testid="stPageLink-NavLink"] {padding-left: 0}
</style>"""


def _page(name: str, title: str, *, is_first: bool = False) -> st.Page:
    return st.Page(_HERE / "screens" / f"{name}.py", title=title, url_path=name, default=is_first)


st.set_page_config("Deltadex", page_icon=_MARK, layout="wide")
st.logo(_LOGO)
st.html(_STYLE)
page = st.navigation(
    [
        _page("overview", "Overview", is_first=True),
        _page("reviews", "Reviews"),
        _page("map", "Map"),
        _page("model", "Model"),
        _page("duplicates", "Duplicates"),
        _page("drift", "Drift"),
        _page("domains", "Domains"),
        _page("geometry", "Geometry"),
        _page("find", "Find a model"),
        _page("activity", "Activity"),
        _page("system", "System"),
    ],
    position="top",
)
shown: str | None = None
try:
    now = snapshot()
    page.run()
    view.who(now)
    shown = now.revision
    set_aside(now.revision)
except DeltadexError as error:
    view.trouble(error)
view.follow(shown)
