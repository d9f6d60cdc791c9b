"""Router of the dashboard, run by `streamlit run app.py`. Every page has its own path, so that links can be shared.

The pages are in `screens/`. If there were a folder named `pages`, Streamlit would answer the first deep link after its
start by running that page without this router.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from deltadex.errors import DeltadexError
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads.snapshots import freeze_cached, snapshot

_HERE = Path(__file__).parent
# Local files: Streamlit fetches icons that are given by name from the internet.
_MARK, _LOGO = str(_HERE / "mark.svg"), str(_HERE / "logo.svg")
# Less space above page titles and above progress bars without a label; links aligned with text.
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
shown_revision: str | None = None
try:
    now = snapshot()
    page.run()
    view.login_status(now)
    shown_revision = now.revision
    freeze_cached(now.revision)
except DeltadexError as error:
    view.error_page(error)
view.rerun_on_change(shown_revision)
